"""Request bodies as strict JSON; `bodies` limits what is read of them."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from aiohttp import web

from optimizely_api.services.http.errors import bad_request

MAX_JSON_MEMBERS = 20_000  # object members in one body; each costs the event loop about a microsecond
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def parse_json(body: bytes, *, max_members: int = MAX_JSON_MEMBERS, nul_allowed: bool = False) -> Any:
    """Parse a JSON text strictly, or raise a ServiceError (400) that says what is wrong.

    Refused: invalid UTF-8, a byte order mark, NaN and Infinity, numbers too large for a double, lone
    surrogates, nesting deeper than 1024 (all by orjson), integers beyond 64 bits, duplicate names in an
    object, more than `max_members` object members, and, unless allowed, the character U+0000, which
    PostgreSQL cannot store.
    """
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"the body is not JSON: {exc}") from exc
    if not nul_allowed and b"\\u0000" in body and _NUL_ESCAPE.search(body):
        raise bad_request("the body holds the character U+0000")
    left = max_members

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal left
        left -= len(pairs)
        if left < 0:
            raise bad_request(f"the body has more than {max_members} object members")
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise bad_request(f"the name {name!r} appears twice in one object")
        return value

    try:
        return json.loads(body, object_pairs_hook=to_dict, parse_int=_parse_json_integer)
    except RecursionError as exc:
        raise bad_request("the body is nested too deeply") from exc


def _parse_json_integer(digits: str) -> int:
    # 64 bits are what databases and other JSON readers hold.
    if len(digits) < 19 or (len(digits) < 21 and -(2**63) <= int(digits) < 2**63):
        return int(digits)
    raise bad_request(f"the body holds the integer {digits[:24]}, which is out of range")


async def read_json(
    request: web.Request, *, max_members: int = MAX_JSON_MEMBERS, nul_allowed: bool = False
) -> Any:
    """The request's body as strict JSON, whatever its Content-Type; see `parse_json`."""
    return parse_json(await request.read(), max_members=max_members, nul_allowed=nul_allowed)


async def read_object(request: web.Request, *, max_members: int = MAX_JSON_MEMBERS) -> dict[str, Any]:
    """The request's body as a JSON object; an empty body counts as `{}`."""
    body = await request.read()
    value = parse_json(body, max_members=max_members) if body.strip() else {}
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value
