"""`wsgi.input` of a body that its server leaves unread until the application reads it."""

import io
from collections.abc import Iterator
from typing import Any, Protocol

from optimizely_api.runtime.aiopyramid_compat import await_in_greenlet


class BodyError(Exception):
    """A body that cannot be read, with the status, code and message of the error response."""

    status = 400
    code = "bad_request"
    retry_after_seconds: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnreadBody(Protocol):
    """A request body that the server has not read yet."""

    def limit_to(self, limit_bytes: int) -> None:
        """Set the largest accepted body; called before any of it is read."""

    async def read(self) -> io.BytesIO:
        """Return the complete content; raises a BodyError."""


class BodyInput:
    """`wsgi.input`: reads the body from the connection on first use, in the request's greenlet.

    Reading raises a BodyError if the body cannot be read.
    """

    def __init__(self, body: UnreadBody, environ: dict[str, Any]) -> None:
        self._body = body
        self._environ = environ
        self._file: io.BytesIO | None = None

    def load(self) -> io.BytesIO:
        """Read the complete body, and set CONTENT_LENGTH to its length, however it was framed on the wire."""
        if self._file is None:
            self._file = await_in_greenlet(self._body.read)
            self._environ["CONTENT_LENGTH"] = str(self._file.getbuffer().nbytes)
        return self._file

    def read(self, size: int | None = -1) -> bytes:
        return self.load().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return self.load().readline(size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return self.load().readlines(hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.load())
