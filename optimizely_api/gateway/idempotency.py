"""`Idempotency-Key`: a POST that is sent again is answered as it was the first time, and makes nothing more.

The projects service keeps the keys of a token for 24 hours, with the answers; so they outlast this gateway and hold for
all its workers. Behind validation, a request claims its key, or is answered with what is known of it. On the way out,
the answer is kept, unless it is a failure (5xx): then nobody knows what was done, and the next request with the key
carries out the same operation, for which the services make something new only once.

A claim is a lease of the request's deadline and LEASE_MORE_SECONDS, so that a key outlives the worker that had it.
"""

import base64
import hashlib
import logging
import math
from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract import CONTRACT
from optimizely_api.gateway import add_tween
from optimizely_api.gateway.contract.compiled import known_route
from optimizely_api.gateway.errors import GatewayError
from optimizely_api.runtime import synchronize
from optimizely_api.upstream import calls
from optimizely_api.upstream.errors import UpstreamError

log = logging.getLogger(__name__)

KEY = "HTTP_IDEMPOTENCY_KEY"
METHOD = "POST"
LEASE_MORE_SECONDS = 5  # than the deadline: for what is done after it
KEEPING_SECONDS = 1.0  # how long a response waits for being kept

Handler = Callable[[Request], Response]


class KeyInUse(GatewayError):
    """409: the first request with the key is still being answered, perhaps by another worker."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            "conflict",
            "A request with this Idempotency-Key is being answered at this moment; send it again later.",
            headers={"Retry-After": str(retry_after_seconds)},
        )


class KeyOfAnother(GatewayError):
    """409: the key was sent with another request before."""

    def __init__(self) -> None:
        super().__init__(
            "conflict",
            "This Idempotency-Key came with another address or body before; a new request needs a key of its own.",
        )


def claiming_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Claim the key of a POST, or respond with the answer that the first request with it was given."""
    posts = {name for name, operation in registry[CONTRACT].operations.items() if operation.method == METHOD}
    lease_seconds = math.ceil(registry["settings"].request_deadline_seconds) + LEASE_MORE_SECONDS
    fetch = synchronize(_fetch)

    def claiming_tween(request: Request) -> Response:
        environ = request.environ
        if (
            KEY not in environ
            or environ["REQUEST_METHOD"] != METHOD
            or (route := known_route(request)) is None
            or route.name not in posts
        ):
            return handler(request)
        token_id = request.identity.token_id
        key_sha256 = _sha256(f"{token_id} {environ[KEY]}".encode("latin-1"))
        claim = fetch(request, calls.claim_key(key_sha256, token_id, _request_sha256(request), lease_seconds))
        if claim["state"] == "answered":
            return _answered(claim)
        if claim["state"] == "under_way":
            raise KeyInUse(claim["retry_after_seconds"])
        if claim["state"] != "claimed":
            raise KeyOfAnother
        request.claimed_operation = claim["operation"]
        return handler(request)

    return claiming_tween


def keeping_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Keep the response to a request that has claimed its key."""
    finish = synchronize(_finish)

    def keeping_tween(request: Request) -> Response:
        response = handler(request)
        if request.claimed_operation:
            finish(request, response)
        return response

    return keeping_tween


async def _fetch(request: Request, call: calls.Call) -> Any:
    return await request.fetch(call)


async def _finish(request: Request, response: Response) -> None:
    operation, status = request.claimed_operation, response.status_int
    if status < 500:
        call = calls.store_answer(operation, status, response.headers.get("ETag", ""), response.body)
    else:
        call = calls.release_key(operation)
    try:
        kept, _, _ = await request.forward(call, KEEPING_SECONDS)
    except UpstreamError as exc:
        log.warning("request %s: its answer is not kept: %s", request.uuid, exc.message)
    else:
        if kept != 204:
            log.warning("request %s: its answer is not kept: status %d", request.uuid, kept)


def _answered(claim: dict[str, Any]) -> Response:
    body = base64.b64decode(claim["body"])
    response = Response(body, status=claim["status"], content_type="application/json")
    if claim["entity_tag"]:
        response.headers["ETag"] = claim["entity_tag"]
    return response


def _request_sha256(request: Request) -> str:
    """What makes a request the same: its address, with the query, and its body, byte for byte."""
    environ = request.environ
    address = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}\n".encode("latin-1")
    return _sha256(address + request.body)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.keeping_tween_factory")
    add_tween(config, f"{__name__}.claiming_tween_factory")
