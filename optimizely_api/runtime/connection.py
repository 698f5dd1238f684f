"""The interface between the bridge and a server, for one request."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from optimizely_api.runtime.body_input import UnreadBody

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # the names in lower case
SendWhole = Callable[[int, Headers, bytes], Awaitable[None]]


class Connection(Protocol):
    """The connection to the client, for the duration of one request.

    `receive` and `send` are ASGI's. `send_whole(status, headers, body)`, if the server has it, replaces the two ASGI
    messages of a response whose body is complete: `http.response.start` and one `http.response.body`.
    """

    @property
    def receive(self) -> Receive: ...

    @property
    def send(self) -> Send: ...

    @property
    def send_whole(self) -> SendWhole | None: ...

    @property
    def body(self) -> UnreadBody | None:
        """The body, if the server leaves it unread until the application reads it; None if it comes by `receive`."""

    @property
    def reads_no_body(self) -> bool:
        """Whether a request whose `body` is None has no body at all."""

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether the server itself cancels the request's task when the client has gone."""

    def is_open(self) -> bool:
        """Whether the client is known to be connected still."""
