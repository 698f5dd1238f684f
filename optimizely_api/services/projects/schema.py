"""What may be set of accounts, tokens and projects; of projects it is what the contract says."""

from __future__ import annotations

from typing import Any

from optimizely_api.contract.definitions import writable
from optimizely_api.services.schema import CONFIDENCE_LEVEL, ID, TEXT, Schema, object_of

NAME = {"type": "string", "pattern": r"\S"}
SHA256_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

TIGHTENED = {"confidence_threshold": CONFIDENCE_LEVEL, "name": NAME}


def _project(name: str, *required: str, **internal: Any) -> Schema:
    schema = writable(name)
    properties = {**schema["properties"], **TIGHTENED, **dict.fromkeys(required, ID), **internal}
    needed = [*schema.get("required", ()), *required]
    return Schema({**schema, "properties": properties, **({"required": needed} if needed else {})})


ACCOUNT = Schema(object_of({"name": NAME}, "name"))
TOKEN = Schema(object_of({"name": NAME, "token_sha256": SHA256_HEX, "user_id": TEXT}, "name"))
# The gateway names the account, which it knows from the token, and the user who is to own the project.
PROJECT = _project("Project", "account_id", owner_id=TEXT)
PROJECT_UPDATE = _project("ProjectUpdate")
