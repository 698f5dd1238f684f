"""Entity tags, If-None-Match and 304 (RFC 9110 sections 8.8.3, 13.1.2 and 15.4.5)."""

from __future__ import annotations

from aiohttp import web

from optimizely_api.http.entity_tags import entity_tag

_ANY = "*"


def is_known(request: web.Request, tag: str) -> bool:
    """Whether If-None-Match names the tag: the client has the response already."""
    return _is_named(request, tag[1:-1])


def not_modified(tag: str) -> web.Response:
    """304: the response that the client has is still valid."""
    return web.Response(status=304, headers={"ETag": tag})


def conditional_response(request: web.Request, response: web.Response) -> web.Response:
    """Add the entity tag of the body, or return a 304 if If-None-Match names that tag or is `*`."""
    assert isinstance(response.body, bytes)  # noqa: S101
    tag = entity_tag(response.body)
    if is_known(request, tag) or _is_named(request, _ANY):
        return not_modified(tag)
    response.headers["ETag"] = tag
    return response


def _is_named(request: web.Request, value: str) -> bool:
    return any(one.value == value for one in request.if_none_match or ())
