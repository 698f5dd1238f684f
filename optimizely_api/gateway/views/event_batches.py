"""`POST /v1/events`: batches of the SDKs' events on their way to the results service, as they are.

Outside the contract, without a token and open to every page, as the results service's own public port has it.
"""

from collections.abc import Mapping

import orjson
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from optimizely_api.gateway.contract.routes import EVENTS_ROUTE
from optimizely_api.gateway.errors import GatewayError
from optimizely_api.upstream import calls
from optimizely_api.upstream.errors import BadUpstreamResponse, KeyRefused
from optimizely_api.upstream.transport.connection import ServiceResponse

ACCEPTED_CODINGS = ("gzip", "deflate", "br", "zstd")  # as the results service decodes them
CODINGS = {"": "", "identity": "", "x-gzip": "gzip", **{name: name for name in ACCEPTED_CODINGS}}
# What the results service says to the sender of a batch, by status.
PASSED_ON = {
    400: "bad_request",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    503: "upstream_unavailable",
}


@view_config(route_name=EVENTS_ROUTE)
async def receive_events(request: Request) -> Response:
    """204 when the batch is durable; the statuses of `PASSED_ON` are the results service's own."""
    coding = CODINGS.get(request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower())
    if coding is None:
        accepted = ", ".join(ACCEPTED_CODINGS)
        raise GatewayError(
            "unsupported_media_type",
            f"Content-Encoding must be one of {accepted}.",
            headers={"Accept-Encoding": accepted},  # RFC 9110 section 15.5.16
        )
    batch: bytes = request.environ["wsgi.input"].getvalue()  # shares the memory of what was read
    call = calls.store_events(batch, coding, request.environ.get("HTTP_USER_AGENT", ""))
    status, body, headers = await request.forward(call, request.registry["settings"].request_deadline_seconds)
    if status != 204:
        raise _refusal((status, body, headers))
    return Response(status=204, headerlist=[])


def _refusal(answer: ServiceResponse) -> Exception:
    status, body, headers = answer
    if status == 401:
        return KeyRefused("results")
    if status not in PASSED_ON:
        return BadUpstreamResponse("results", f"status {status}")
    return GatewayError(PASSED_ON[status], _message(body), headers=_retry_after(status, headers))


def _retry_after(status: int, headers: Mapping[str, str]) -> dict[str, str]:
    seconds = headers.get("Retry-After", "")
    if seconds.isascii() and seconds.isdigit():
        return {"Retry-After": seconds}
    return {"Retry-After": "1"} if status in (429, 503) else {}


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "The results service did not take the batch."
