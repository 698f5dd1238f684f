"""Request bodies as strict JSON; `bodies` limits what is read of them."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from optimizely_api.http import strict_json
from optimizely_api.services.http.errors import bad_request

MAX_JSON_MEMBERS = 20_000  # object members in one body; each costs the event loop about a microsecond


def parse_json(body: bytes, *, max_members: int = MAX_JSON_MEMBERS) -> Any:
    """Parse a JSON text strictly (`http/strict_json.py`), or raise a ServiceError (400) that says what is wrong.

    Refused besides: more than `max_members` object members, and the character U+0000, which PostgreSQL cannot store.
    """
    try:
        read = strict_json.finish(strict_json.reading(body))
    except strict_json.RepeatedName as exc:
        raise bad_request(f"the name {_repeated_name(body)!r} appears twice in one object") from exc
    except strict_json.InvalidJson as exc:
        raise bad_request(str(exc)) from exc
    if read.has_nul:
        raise bad_request("the body holds the character U+0000")
    if body.count(b":") > max_members and read.member_count() > max_members:
        raise bad_request(f"the body has more than {max_members} object members")
    return read.value


def _repeated_name(body: bytes) -> str:
    found: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        found.extend(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]

    json.loads(body, object_pairs_hook=remember, parse_int=float)
    return found[0]


async def read_object(request: web.Request, *, max_members: int = MAX_JSON_MEMBERS) -> dict[str, Any]:
    """The request's body as a JSON object, whatever its Content-Type; an empty body counts as `{}`."""
    body = await request.read()
    value = parse_json(body, max_members=max_members) if body.strip() else {}
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value
