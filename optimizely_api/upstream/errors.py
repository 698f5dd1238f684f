"""The failures of a call to a service, and the message about each that the caller gets.

    UpstreamError
    ├── EntityNotFound
    ├── CallRefused
    ├── StateConflict
    ├── EntityGone
    ├── VersionMismatch
    ├── BodyTooLarge
    ├── MediaTypeRefused
    ├── BadUpstreamResponse       (an outage)
    │   ├── ResponseAboutAnother
    │   └── Denied                (no outage)
    │       └── KeyRefused
    ├── UpstreamUnavailable       (an outage)
    │   └── NeverSent
    └── UpstreamTimeout           (an outage)

`code` is one of `optimizely_api.gateway.errors.CODES`; the message names the service. An outage is a failure to answer
the question: a response may do without an optional part then. All others are answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimizely_api.upstream.calls import Call

RETRY_AFTER_SECONDS = 1


class UpstreamError(Exception):
    """A call that brought no usable response."""

    code = "internal_error"
    is_outage = False
    headers: Mapping[str, str] = MappingProxyType({})
    call: Call | None = None  # which failed

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(upstream, message)
        self.upstream = upstream
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the message, whatever arguments the subclass takes: the legacy pool sends errors between processes."""
        return _rebuild, (type(self), self.upstream, self.message)


class EntityNotFound(UpstreamError):
    """404: the service does not know the requested entity."""

    code = "not_found"

    def __init__(self, upstream: str, what: str) -> None:
        super().__init__(upstream, f"There is no {what}.")


class CallRefused(UpstreamError):
    """400: the service rejects the caller's request; its message is passed on.

    `messages` are the violations that the service names, by JSON pointer.
    """

    code = "bad_request"
    messages: Mapping[str, str] = MappingProxyType({})


class StateConflict(UpstreamError):
    """409: the entity is in a state that does not allow the request (RFC 9110 section 15.5.10)."""

    code = "conflict"


class EntityGone(UpstreamError):
    """410: the entity is archived already (RFC 9110 section 15.5.11)."""

    code = "gone"


class VersionMismatch(UpstreamError):
    """412: the entity has another version than `If-Match` names (RFC 9110 section 15.5.13)."""

    code = "precondition_failed"


class BodyTooLarge(UpstreamError):
    """413: the service accepts no body of this size."""

    code = "request_too_large"


class MediaTypeRefused(UpstreamError):
    """415: the service does not accept the media type or the content coding of the body."""

    code = "unsupported_media_type"


class BadUpstreamResponse(UpstreamError):
    """502: the response is not what was agreed with the service (RFC 9110 section 15.6.3)."""

    code = "bad_upstream_answer"
    is_outage = True

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(upstream, f"The {upstream} service gave a bad answer: {reason}.")


class ResponseAboutAnother(BadUpstreamResponse):
    """502: the response is about another entity; its connection may be one response behind."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "it is not about what was asked")


class Denied(BadUpstreamResponse):
    """502: the service denies with 401, 403, 404 or 410 what another service says is there."""

    is_outage = False


class KeyRefused(Denied):
    """502: the service responds with 401 because its key is not the gateway's; the caller's token is not the cause."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "its key (SERVICES_KEY) is not the gateway's")


class UpstreamUnavailable(UpstreamError):
    """503: the service cannot be reached, or responds with 503 itself (RFC 9110 section 15.6.4)."""

    code = "upstream_unavailable"
    is_outage = True
    headers = MappingProxyType({"Retry-After": str(RETRY_AFTER_SECONDS)})

    def __init__(self, upstream: str, message: str = "") -> None:
        super().__init__(upstream, message or f"The {upstream} service cannot be reached.")


class NeverSent(UpstreamUnavailable):
    """503: the call did not leave the gateway, so a write was certainly not made."""


class UpstreamTimeout(UpstreamError):
    """504: no response from the service in time (RFC 9110 section 15.6.5).

    `limit_seconds` is the gateway's limit; None where the service itself says that the time is spent.
    """

    code = "upstream_timeout"
    is_outage = True

    def __init__(self, upstream: str, limit_seconds: float | None = None) -> None:
        when = "in time" if limit_seconds is None else f"within {limit_seconds:.3g} seconds"
        super().__init__(upstream, f"The {upstream} service did not answer {when}.")


def stands_for_value(call: Call, error: UpstreamError) -> UpstreamError:
    """Return the outage of an optional call; raises any other failure of a call. Both name the call."""
    error.call = call
    if call.is_optional and error.is_outage:
        return error
    raise error


def _rebuild(kind: type[UpstreamError], upstream: str, message: str) -> UpstreamError:
    error = kind.__new__(kind, upstream, message)
    UpstreamError.__init__(error, upstream, message)
    return error
