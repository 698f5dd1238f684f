"""The key that the services share with their clients: the gateway, the demo's loader, the command line.

It comes from `SERVICES_KEY`, or from the file that `SERVICES_KEY_FILE` names, and is sent as a bearer token (RFC 6750
section 2.1). There may be several keys, separated by white space: a service accepts each, a client sends the first. So
a key can be replaced while everything runs. No message here contains a key.
"""

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from hmac import compare_digest
from pathlib import Path

from optimizely_api.start_failures import CannotStart

VARIABLE = "SERVICES_KEY"
FILE_VARIABLE = "SERVICES_KEY_FILE"
FILE_NAME = "services.key"  # in the data folder of `make run`
LEAST_CHARACTERS = 16
HOW = (
    f"set {VARIABLE}, or {FILE_VARIABLE} to a file that holds it, for the gateway and its services alike"
    f" (at least {LEAST_CHARACTERS} characters; `optimizely-api services-key` makes one)"
)

_VISIBLE = re.compile("[!-~]+")  # the characters that a header may contain


class InvalidServicesKey(CannotStart, ValueError):
    """The key is missing or unusable; the message says how to set it."""


def read_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys from the environment; raises InvalidServicesKey."""
    return keys_of(environ.get(VARIABLE, ""), environ.get(FILE_VARIABLE, ""))


def keys_of(text: str, path: str) -> tuple[str, ...]:
    """The keys in `text`, or else in the file at `path`; raises InvalidServicesKey."""
    if text.strip():
        return _checked(text, "the services' key")
    if not path:
        raise InvalidServicesKey(f"there is no services' key: {HOW}")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not text"
        raise InvalidServicesKey(f"the services' key in {path} cannot be read ({reason}): {HOW}") from None
    return _checked(text, f"the services' key in {path}")


def _checked(text: str, what: str) -> tuple[str, ...]:
    keys = tuple(text.split())
    if not keys or min(map(len, keys)) < LEAST_CHARACTERS:
        raise InvalidServicesKey(f"{what} is too short: {HOW}")
    if not all(_VISIBLE.fullmatch(key) for key in keys):
        raise InvalidServicesKey(f"{what} has characters other than visible ASCII: {HOW}")
    return keys


def authorization(key: str) -> dict[str, str]:
    """The Authorization header with the key."""
    return {"Authorization": f"Bearer {key}"}


def is_authorized(header: str | None, keys: Sequence[str]) -> bool:
    """Whether an Authorization header has one of the keys; takes the same time whatever they have in common."""
    scheme, _, token = (header or "").partition(" ")
    token_bytes = token.strip().encode("utf-8", "surrogateescape")
    matches = [compare_digest(token_bytes, key.encode()) for key in keys]
    return scheme.lower() == "bearer" and any(matches)


def key_file(folder: Path) -> Path:
    """The key file in `folder`; if it does not exist, it is created with a new key, readable only by its owner."""
    path = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secrets.token_urlsafe(32)}\n")
    return path
