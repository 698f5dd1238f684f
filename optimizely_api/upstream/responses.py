"""Turn the HTTP response of a service into a value or an error, in the same way for every client."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    CallRefused,
    EntityNotFound,
    KeyRefused,
    ResponseAboutAnother,
    UpstreamUnavailable,
)
from optimizely_api.upstream.shapes import Check


class Computing:
    """The type of `COMPUTING`."""

    def __repr__(self) -> str:
        return "COMPUTING"


COMPUTING: Final = Computing()  # the results are not ready yet (202)


def read_response(call: Call, status: int, body: bytes, shapes: Mapping[str, Check]) -> Any:
    """Return the JSON value of a response; for results, None for 204 and COMPUTING for 202.

    Raises EntityNotFound, CallRefused, UpstreamUnavailable or BadUpstreamResponse.
    """
    if status == 200:
        return _checked(call, body, shapes)
    if call.expects == "Results":
        if status == 204:
            return None
        if status == 202:
            return COMPUTING
        if status == 400:
            raise CallRefused(call.upstream, _message(body))
    if status == 401:
        raise KeyRefused(call.upstream)
    if status == 404 and call.entity:
        raise EntityNotFound(call.upstream, call.entity)
    if status == 503:
        raise UpstreamUnavailable(call.upstream)
    # Among them 202, 204 and 400 of the other services: those are agreed for results only.
    raise BadUpstreamResponse(call.upstream, f"status {status}")


def _checked(call: Call, body: bytes, shapes: Mapping[str, Check]) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadUpstreamResponse(call.upstream, "its body is not JSON") from exc
    if (where := shapes[call.expects](value)) is not None:
        raise BadUpstreamResponse(call.upstream, f"{where} is not as agreed")
    if call.about and not _is_about(call, value):
        raise ResponseAboutAnother(call.upstream)
    return value


def _is_about(call: Call, value: Any) -> bool:
    entities = value["items"] if call.expects.endswith("List") else (value,)
    for entity in entities:
        for name, expected in call.about:
            if entity.get(name) != expected:
                return False
    return True


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "The request was refused without a reason."
