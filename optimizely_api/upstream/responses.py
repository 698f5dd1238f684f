"""Turn the HTTP response of a service into a value or an error, in the same way for every client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    BodyTooLarge,
    CallRefused,
    Denied,
    EntityGone,
    EntityNotFound,
    KeyRefused,
    MediaTypeRefused,
    ResponseAboutAnother,
    StateConflict,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
    VersionMismatch,
)
from optimizely_api.upstream.shapes import Check

# Of calls that compute: 202 while they do, 204 without data, and a 400 is the caller's.
COMPUTED: Final = frozenset({"Results", "Timeseries"})


@dataclass(frozen=True)
class Computing:
    """The results are not ready yet (202); ask again in so many seconds."""

    retry_after_seconds: int = 2


DENIALS: Final = frozenset({403, 404, 410})

# The caller's mistakes that a service finds in a write. In a response to any other call they are not as agreed.
REFUSALS: Final[Mapping[int, type[UpstreamError]]] = {
    400: CallRefused,
    409: StateConflict,
    410: EntityGone,
    412: VersionMismatch,
    413: BodyTooLarge,
    415: MediaTypeRefused,
}


def read_response(call: Call, status: int, body: bytes, shapes: Mapping[str, Check]) -> Any:
    """Return the JSON value of a response; None for 204, and Computing for 202, which are agreed for results only.

    Raises EntityNotFound, UpstreamUnavailable, UpstreamTimeout, one of REFUSALS or BadUpstreamResponse.
    """
    if status in (200, 201) and call.expects:
        return _checked(call, body, shapes)
    if call.expects in COMPUTED and status in (202, 204):
        return _computing(body) if status == 202 else None
    if status == 204 and not call.is_safe:
        return None
    raise _error(call, status, body)


def _error(call: Call, status: int, body: bytes) -> UpstreamError:
    """What a status that is no success means for this call."""
    if status == 401:
        return KeyRefused(call.upstream)
    if status == 404 and call.entity:
        return EntityNotFound(call.upstream, call.entity)
    if status == 503:
        return UpstreamUnavailable(call.upstream)
    if status == 504:
        return UpstreamTimeout(call.upstream)
    passes_refusals = not call.is_safe or (call.expects in COMPUTED and status == 400)
    if passes_refusals and status in REFUSALS:
        return _refusal(call, status, body)
    if status in DENIALS:
        return Denied(call.upstream, f"status {status}")
    return BadUpstreamResponse(call.upstream, f"status {status}")


def _refusal(call: Call, status: int, body: bytes) -> UpstreamError:
    error = REFUSALS[status](call.upstream, _message(body))
    if isinstance(error, CallRefused):
        error.messages = _messages(body)
    return error


def _computing(body: bytes) -> Computing:
    try:
        return Computing(max(1, int(orjson.loads(body)["retry_after_seconds"])))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Computing()


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


def _messages(body: bytes) -> dict[str, str]:
    try:
        return {str(place): str(problem) for place, problem in orjson.loads(body)["messages"].items()}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return {}
