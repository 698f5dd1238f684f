"""Who asks: what the bridge needs of a server for one request."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from optimizely_api.runtime.body_input import UnreadBody

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # the names in lower case
SendWhole = Callable[[int, Headers, bytes], Awaitable[None]]


class Caller(Protocol):
    """One request's way from and to its client.

    `receive` and `send` are ASGI's. `send_whole(status, headers, body)`, where a server has it, is an answer's
    `http.response.start` and its only `http.response.body` in one.
    """

    @property
    def receive(self) -> Receive: ...

    @property
    def send(self) -> Send: ...

    @property
    def send_whole(self) -> SendWhole | None: ...

    @property
    def body(self) -> UnreadBody | None:
        """The body where the server leaves it unread until the application wants it; None: `receive` has it."""

    @property
    def reads_no_body(self) -> bool:
        """Whether a request without `body` has none at all."""

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the server itself cancels the request's task when the client has gone."""

    def is_open(self) -> bool:
        """Whether the client is known to be there still."""
