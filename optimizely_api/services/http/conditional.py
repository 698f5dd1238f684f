"""Entity tags and 304 (RFC 9110 sections 8.8.3, 13.1.2 and 15.4.5)."""

from __future__ import annotations

from aiohttp import web

from optimizely_api.http.entity_tags import entity_tag

_ANY = "*"


def is_known(request: web.Request, tag: str) -> bool:
    """Whether the caller has what the tag stands for: If-None-Match names it."""
    return _is_named(request, tag[1:-1])


def not_modified(tag: str) -> web.Response:
    """304: what the caller has is still what would be answered."""
    return web.Response(status=304, headers={"ETag": tag})


def unless_known(request: web.Request, response: web.Response) -> web.Response:
    """Give a 200 the tag of its body, or make it a 304 for a caller who has that body, or wants none that is there."""
    assert isinstance(response.body, bytes)  # noqa: S101
    tag = entity_tag(response.body)
    if is_known(request, tag) or _is_named(request, _ANY):
        return not_modified(tag)
    response.headers["ETag"] = tag
    return response


def _is_named(request: web.Request, value: str) -> bool:
    return any(one.value == value for one in request.if_none_match or ())
