"""The blocking client of the services, on `requests`; calls, limits, shapes and errors as in the asyncio client."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from optimizely_api.http.preferences import wait_preference
from optimizely_api.services_key import authorization
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Limits, Upstream, call_numbers
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
    stands_for_value,
)
from optimizely_api.upstream.responses import read_response
from optimizely_api.upstream.shapes import Check
from optimizely_api.upstream.transport.connection import ECHO

CHUNK_BYTES = 64 * 1024


class BlockingClient:
    """Sends one call and waits for its response; each thread has its own session, and so its own connections."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], limits: Limits, shapes: Mapping[str, Check]
    ) -> None:
        self._upstreams = upstreams
        self._limits = limits
        self._shapes = shapes
        self._local = threading.local()
        self._numbers = call_numbers()

    def __getstate__(self) -> tuple[Mapping[str, Upstream], Limits]:
        """Pickle only what another process needs to send calls: no connections and no compiled shapes."""
        return self._upstreams, self._limits

    def __setstate__(self, state: tuple[Mapping[str, Upstream], Limits]) -> None:
        self.__init__(*state, {})  # type: ignore[misc]

    def fetch(self, call: Call, context: CallContext) -> Any:
        """Return the value of the call's response; raises an UpstreamError within its limit and the deadline.

        The outage of an optional call stands for its value.
        """
        started = time.monotonic()
        try:
            status, body = self.send(call, context)
            return self.read(call, status, body)
        except UpstreamError as exc:
            return stands_for_value(call, exc)
        finally:
            context.note(call.upstream, time.monotonic() - started)

    def read(self, call: Call, status: int, body: bytes) -> Any:
        return read_response(call, status, body, self._shapes)

    def value(self, call: Call, outcome: tuple[int, bytes] | Exception) -> Any:
        """Return the value of what `send` returned or raised in another process, as `fetch` does."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return self.read(call, *outcome)
        except UpstreamError as exc:
            return stands_for_value(call, exc)

    def send(self, call: Call, context: CallContext) -> tuple[int, bytes]:
        """Return status and body of the response, whatever they are; raises an UpstreamError without a response."""
        limit = min(self._upstreams[call.upstream].timeout_seconds, context.deadline - time.monotonic())
        if limit <= 0:
            raise UpstreamTimeout(call.upstream, 0.0)
        try:
            return self._send(call, context, limit)
        except requests.ConnectTimeout as exc:
            raise UpstreamUnavailable(call.upstream) from exc
        except requests.Timeout as exc:
            raise UpstreamTimeout(call.upstream, limit) from exc
        except requests.ConnectionError as exc:
            raise _connection_error(call, limit, exc) from exc
        except requests.RequestException as exc:
            raise BadUpstreamResponse(call.upstream, "the connection broke off") from exc

    def _send(self, call: Call, context: CallContext, limit: float) -> tuple[int, bytes]:
        ends = time.monotonic() + limit
        number = f"{context.request_id}.{next(self._numbers)}"
        upstream = self._upstreams[call.upstream]
        headers = {ECHO: number, "Accept-Encoding": "identity"}
        if upstream.key:
            headers |= authorization(upstream.key)
        if call.wait_seconds is not None:
            headers["Prefer"] = wait_preference(call.wait_seconds)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        with self._session().request(
            call.method,
            upstream.url + call.path,
            params=list(call.query),
            data=None if call.body is None else call.content,
            headers=headers,
            timeout=(min(self._limits.connect_timeout_seconds, limit / 2), limit),
            allow_redirects=False,
            stream=True,
        ) as response:
            self._check_head(call, response, number)
            return response.status_code, self._read(call, response, ends)

    def _check_head(self, call: Call, response: requests.Response, number: str) -> None:
        echo = response.headers.get(ECHO)
        required = self._limits.echo_required and response.status_code < 500
        refusal = ""
        if echo != number and (echo is not None or required):
            refusal = "it does not say that it is the answer to this call"
        elif response.headers.get("Content-Encoding", "identity").lower() != "identity":
            refusal = "it is encoded, though it was not to be"
        if refusal:
            response.raw.close()  # not to be reused: it may bring further bytes of another response
            raise BadUpstreamResponse(call.upstream, refusal)

    def _read(self, call: Call, response: requests.Response, ends: float) -> bytes:
        """Return the complete body; each read has only the remaining time, however slowly the body arrives."""
        chunks: list[bytes] = []
        size = 0
        while True:
            if (remaining := ends - time.monotonic()) <= 0:
                raise requests.Timeout
            connection = response.raw.connection
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(remaining)
            chunk = self._read_chunk(response)
            if not chunk:
                return b"".join(chunks)
            size += len(chunk)
            if size > self._limits.response_bytes:
                raise BadUpstreamResponse(
                    call.upstream, f"its body is larger than {self._limits.response_bytes} bytes"
                )
            chunks.append(chunk)

    def _read_chunk(self, response: requests.Response) -> bytes:
        try:
            chunk: bytes = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise requests.Timeout from exc
        except urllib3.exceptions.HTTPError as exc:
            raise requests.exceptions.ChunkedEncodingError from exc
        return chunk

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # Ignore proxies in the environment: none may stand between the gateway and its services.
            session.trust_env = False
            # A failed connect is retried once: nothing was sent yet.
            once = urllib3.Retry(total=1, connect=1, read=0, redirect=0, status=0, other=0)
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=once))
        return session


def _connection_error(
    call: Call, limit: float, error: requests.ConnectionError
) -> BadUpstreamResponse | UpstreamTimeout | UpstreamUnavailable:
    """Distinguish the cases of ConnectionError: refused, broken off, or timed out in the middle of a body."""
    text = repr(error)  # shows the cause too, which is nested in exceptions of urllib3
    if "NewConnectionError" in text:
        return UpstreamUnavailable(call.upstream)
    if "Read timed out" in text:
        return UpstreamTimeout(call.upstream, limit)
    return BadUpstreamResponse(call.upstream, "the connection broke off")
