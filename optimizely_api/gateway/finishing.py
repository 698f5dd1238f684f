"""What an answer says of itself, to callers and the caches between: ETag, Vary, Cache-Control, its content coding.

A 200 to GET or HEAD gets the ETag of its content, becomes a 304 for a caller who has that content, and is compressed
for one who takes a coding. All of this comes after the answer: identity, validation, the view and the check against
the contract are as for any other request, so that a 304 is only sent for what would have been a 200 now, to this
caller.

Compressed answers tell nothing through their length (BREACH): a token travels in a header that no other site can make
a browser send, no 200 repeats what was asked, and errors are never compressed.
"""

import asyncio
from collections.abc import Callable, Iterator

import orjson
from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway import BLOCKING, add_tween
from optimizely_api.gateway.errors import PreconditionFailed, error_body
from optimizely_api.http.codings import WORTH_IT, compress, compress_chunks, preference
from optimizely_api.http.entity_tags import coded_tag, entity_tag, evaluate
from optimizely_api.runtime import synchronize
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.resilience.stale import KeptUse

READING = frozenset({"GET", "HEAD"})

# An answer is about the account of its token: shared caches must not keep it, and others must ask again every time.
# That also lets `Vary` do without Authorization, as RFC 9110 section 12.5.5 says; a 304 to another token is only sent
# when that one would have been given the same content.
PRIVATE = "private, no-cache"
NO_ERROR_KEPT = "no-store"
CACHE_NAME = "optimizely-api"  # in Cache-Status

# What a 304 leaves out (RFC 9110 section 15.4.5): it has no content. What it keeps brings a stored answer up to date.
OF_CONTENT = frozenset({"content-type", "content-length", "content-encoding"})

# Larger bodies are compressed in a thread, where Python's lock is let go: the event loop would be held for more than
# the 0.6 ms that gzip, the slowest, takes for this many; 1.3 MB would take it 9 ms.
ON_LOOP_BYTES = 128 * 1024

Handler = Callable[[Request], Response]
Compress = Callable[[str, bytes], bytes]


def finishing_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Complete what the application answered, in whatever way it came about."""
    from_bytes = registry["settings"].compress_from_bytes
    compress_large: Compress = compress if registry.get(BLOCKING) else synchronize(_compress_in_thread)

    def finishing_tween(request: Request) -> Response:
        response = handler(request)
        headers = response.headerlist
        said = {name.lower(): value for name, value in headers}
        status = response.status_int
        if "cache-control" not in said:
            headers.append(("Cache-Control", NO_ERROR_KEPT if status >= 400 else PRIVATE))
        context = request.call_context
        if (context.unreachable or context.kept) and status < 400:
            headers += _degraded(request, context)
        method = request.environ["REQUEST_METHOD"]
        if status != 200 or method not in READING:
            return response
        # A body that is made while it is sent stays an iterator; its view has said its ETag.
        body = None if is_made_while_sent(response) else response.body
        coding = None
        if from_bytes and _is_worth_compressing(said):
            is_small = body is not None and len(body) < from_bytes
            coding = _negotiate(request, said, response, is_small=is_small)
        if unmet := _conditional(request, response, said, coding):
            return unmet
        if coding is not None:
            headers.append(("Content-Encoding", coding))
            if method == "HEAD":
                # The length would be known only after the work (RFC 9110 section 9.3.2).
                response.content_length = None
            elif body is None:
                response.app_iter = compress_chunks(coding, response.app_iter)
            else:
                response.body = (compress if len(body) <= ON_LOOP_BYTES else compress_large)(coding, body)
        return response

    return finishing_tween


def _degraded(request: Request, context: CallContext) -> Iterator[tuple[str, str]]:
    """The headers of a response without a part, or with one that was kept: which, how old, and why (RFC 9211)."""
    if context.unreachable:
        yield "X-Unreachable", ", ".join(context.unreachable)
    if not context.kept:
        return
    oldest: dict[str, KeptUse] = {}  # of the calls of each part
    for use in context.kept:
        name = request.part_of(use.call) or use.call.upstream
        if name not in oldest or use.age_seconds > oldest[name].age_seconds:
            oldest[name] = use
    yield "Age", str(int(max(use.age_seconds for use in context.kept)))
    how = "fwd=stale" if any(use.was_asked for use in context.kept) else "hit"
    said = "; ".join(f"{name} {int(use.age_seconds)} s old: {use.reason}" for name, use in oldest.items())
    yield "Cache-Status", f'{CACHE_NAME}; {how}; detail="{said}"'


def is_made_while_sent(response: Response) -> bool:
    """Whether the body is an iterator of unknown length."""
    return not isinstance(response.app_iter, list | tuple)


async def _compress_in_thread(coding: str, body: bytes) -> bytes:
    return await asyncio.to_thread(compress, coding, body)


def _is_worth_compressing(said: dict[str, str]) -> bool:
    if said.get("content-type") != "application/json":  # nearly all are; the rest may have parameters
        media_type = said.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in WORTH_IT:
            return False
    return "content-encoding" not in said and "no-transform" not in said.get("cache-control", "").lower()


def _negotiate(request: Request, said: dict[str, str], response: Response, *, is_small: bool) -> str | None:
    """The coding to compress in; `Vary` says that there was a choice, also where the choice was not to."""
    if "vary" not in said:
        response.headerlist.append(("Vary", "Accept-Encoding"))
    elif "accept-encoding" not in said["vary"].lower():
        response.headers["Vary"] = f"{said['vary']}, Accept-Encoding"
    accepted = request.environ.get("HTTP_ACCEPT_ENCODING")
    if accepted is None:
        return None
    wanted = preference(accepted)
    return None if is_small and wanted.takes_plain else wanted.coding


def _conditional(
    request: Request, response: Response, said: dict[str, str], coding: str | None
) -> Response | None:
    """Give a 200 its ETag, and hold the request's conditions against it; None when it stays a 200."""
    etag = said.get("etag")
    if etag is None:
        link = said.get("link")
        etag = entity_tag(response.body) if link is None else entity_tag(response.body, link)
        response.headerlist.append(("ETag", coded_tag(etag, coding)))
    elif coding is not None:
        response.headers["ETag"] = coded_tag(etag, coding)
    outcome = evaluate(request.environ, coded_tag(etag, coding))
    if outcome == 304:
        return _not_modified(response)
    return _precondition_failed(request) if outcome == 412 else None


def _not_modified(response: Response) -> Response:
    response.status = "304 Not Modified"
    response.app_iter = []
    response.headerlist[:] = [item for item in response.headerlist if item[0].lower() not in OF_CONTENT]
    return response


def _precondition_failed(request: Request) -> Response:
    body = orjson.dumps(error_body(PreconditionFailed(), request.uuid))
    response = Response(body, status=412, content_type="application/json")
    response.headers["Cache-Control"] = NO_ERROR_KEPT
    return response


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.finishing_tween_factory")
