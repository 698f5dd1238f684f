"""What can go wrong between the gateway and a service, and what the caller is told about it.

`code` is one of `optimizely_api.gateway.errors.CODES`; the message names the service.
"""

from collections.abc import Mapping
from types import MappingProxyType

RETRY_AFTER_SECONDS = 1


class UpstreamError(Exception):
    """A call that gave no usable answer."""

    code = "internal_error"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(upstream, message)
        self.upstream = upstream
        self.message = message

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes as what was said, whatever the subclass is made of."""
        return _remade, (type(self), self.upstream, self.message)


class EntityNotFound(UpstreamError):
    """404: the service does not know the entity that was asked for."""

    code = "not_found"

    def __init__(self, upstream: str, what: str) -> None:
        super().__init__(upstream, f"There is no {what}.")


class CallRefused(UpstreamError):
    """400: the service says that the caller's request makes no sense; its message is passed on.

    `messages` are its violations by JSON pointer, where it names them.
    """

    code = "bad_request"
    messages: Mapping[str, str] = MappingProxyType({})


class StateConflict(UpstreamError):
    """409: the request would be right in another state of the entity (RFC 9110 section 15.5.10)."""

    code = "conflict"


class EntityGone(UpstreamError):
    """410: the entity is archived already (RFC 9110 section 15.5.11)."""

    code = "gone"


class VersionMismatch(UpstreamError):
    """412: the entity has another version than `If-Match` names (RFC 9110 section 15.5.13)."""

    code = "precondition_failed"


class BodyTooLarge(UpstreamError):
    """413: the service refuses a body of this size."""

    code = "request_too_large"


class MediaTypeRefused(UpstreamError):
    """415: the service refuses the media type or the content coding of the body."""

    code = "unsupported_media_type"


class BadUpstreamAnswer(UpstreamError):
    """502: the answer breaks what was agreed with the service (RFC 9110 section 15.6.3)."""

    code = "bad_upstream_answer"

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(upstream, f"The {upstream} service gave a bad answer: {reason}.")


class AnswerAboutAnother(BadUpstreamAnswer):
    """502: the answer is about something else than was asked; its connection may be an answer behind."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "it is not about what was asked")


class KeyRefused(BadUpstreamAnswer):
    """502: the service answers 401, which says nothing of the caller: its key is not the gateway's."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "its key (SERVICES_KEY) is not the gateway's")


class UpstreamUnavailable(UpstreamError):
    """503: the service cannot be reached, or says that it cannot serve now (RFC 9110 section 15.6.4)."""

    code = "upstream_unavailable"
    headers = MappingProxyType({"Retry-After": str(RETRY_AFTER_SECONDS)})

    def __init__(self, upstream: str, message: str = "") -> None:
        super().__init__(upstream, message or f"The {upstream} service cannot be reached.")


class UpstreamTimeout(UpstreamError):
    """504: the service did not answer within `limit_seconds` (RFC 9110 section 15.6.5)."""

    code = "upstream_timeout"

    def __init__(self, upstream: str, limit_seconds: float) -> None:
        super().__init__(
            upstream, f"The {upstream} service did not answer within {limit_seconds:.3g} seconds."
        )


def _remade(kind: type[UpstreamError], upstream: str, message: str) -> UpstreamError:
    error = kind.__new__(kind, upstream, message)
    UpstreamError.__init__(error, upstream, message)
    return error
