"""`wsgi.input` of a body that its server leaves unread until the application reads it."""

import io
from collections.abc import Iterator
from typing import Any, Protocol

from optimizely_api.runtime.aiopyramid_compat import await_in_greenlet


class BodyError(Exception):
    """The body cannot be had: the status, code and message of the response that says so."""

    status = 400
    code = "bad_request"
    retry_after_seconds: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnreadBody(Protocol):
    """A request's body at the server."""

    def limit_to(self, limit_bytes: int) -> None:
        """Take a body of so many bytes at most; before any of it is read."""

    async def read(self) -> io.BytesIO:
        """The whole content. Raises a BodyError."""


class BodyInput:
    """`wsgi.input` of a body that is read when somebody reads it, in the request's greenlet.

    Reading raises a BodyError where the body cannot be had.
    """

    def __init__(self, body: UnreadBody, environ: dict[str, Any]) -> None:
        self._body = body
        self._environ = environ
        self._file: io.BytesIO | None = None

    def load(self) -> io.BytesIO:
        """Have the whole body read; CONTENT_LENGTH says how long it is, whatever framed it on the wire."""
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
