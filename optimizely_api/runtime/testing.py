"""WebTest for coroutine views: `app.get("/v2/...")` through the bridge, on an event loop in a thread."""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes

import webtest

from optimizely_api.runtime.bridge import AsgiBridge
from optimizely_api.runtime.environ import Environ, Scope
from optimizely_api.runtime.wsgi_response import Application

T = TypeVar("T")

_EXTRA = "webtest.environ"


class _TestBridge(AsgiBridge):
    """The bridge, plus the keys of a test's environ that no HTTP request carries."""

    def environ(self, scope: Scope) -> Environ:
        return {**super().environ(scope), **scope[_EXTRA]}


class GatewayTestApp(webtest.TestApp):  # type: ignore[misc]
    """A `webtest.TestApp` for an application of coroutine views.

    An event loop in a separate thread runs the lifespan and then every request, through the same bridge as in
    production. It keeps running between requests, so upstream servers may run on it too: `run` awaits a coroutine
    there. Use it with `with`, or call `close()`, which runs the lifespan's shut-down.
    """

    def __init__(self, app: Application, extra_environ: Environ | None = None, **options: Any) -> None:
        self._bridge = _TestBridge(app)
        self.application = app
        self.registry = self._bridge.registry
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="GatewayTestApp", daemon=True)
        self._thread.start()
        self._to_lifespan: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_lifespan: queue.Queue[dict[str, Any]] = queue.Queue()
        self._lifespan = asyncio.run_coroutine_threadsafe(
            self._bridge({"type": "lifespan"}, self._to_lifespan.get, self._receive_from_lifespan), self._loop
        )
        try:
            self._send_to_lifespan("startup")
        except BaseException:
            self._stop_loop()
            raise
        super().__init__(self._respond, extra_environ=extra_environ, **options)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await `coroutine` on the application's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Run the shut-down hooks and stop the loop. Raises RuntimeError when a hook failed."""
        if self._loop.is_closed():
            return
        try:
            self._send_to_lifespan("shutdown")
        finally:
            self._stop_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def _receive_from_lifespan(self, message: dict[str, Any]) -> None:
        self._from_lifespan.put(message)

    def _send_to_lifespan(self, event: str) -> None:
        self._loop.call_soon_threadsafe(self._to_lifespan.put_nowait, {"type": f"lifespan.{event}"})
        message = self._from_lifespan.get(timeout=30.0)
        if message["type"] != f"lifespan.{event}.complete":
            raise RuntimeError(f"{event} failed: {message['message']}")

    def _stop_loop(self) -> None:
        self.run(_cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _respond(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application that webtest calls."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start, chunks = self.run(_request(self._bridge, _scope(environ), body))
        headers = [
            (name.decode("latin-1").title(), value.decode("latin-1")) for name, value in start["headers"]
        ]
        start_response(
            f"{start['status']} {webtest.TestResponse(status=start['status']).status[4:]}", headers
        )
        return chunks


async def _cancel_the_rest() -> None:
    """Cancel the tasks that the lifespan left running."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()


async def _request(bridge: AsgiBridge, scope: Scope, body: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Serve one request; returns the message that starts the response, and the chunks of its body.

    Runs in a task, and so in a context, of its own.
    """
    messages: list[dict[str, Any]] = []
    inbox = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop()
        await asyncio.Event().wait()
        raise AssertionError("the event is never set")

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await bridge(scope, receive, send)
    return messages[0], [message["body"] for message in messages[1:]]


def _scope(environ: Environ) -> Scope:
    """Return the ASGI scope for a test's environ, as a server would build it from the bytes of a request."""
    from_wire = {
        "REQUEST_METHOD",
        "PATH_INFO",
        "QUERY_STRING",
        "CONTENT_TYPE",
        "CONTENT_LENGTH",
        "wsgi.input",
    }
    from_wire |= {
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "wsgi.url_scheme",
        "REMOTE_ADDR",
    }
    headers = []
    extra = {}
    for key, value in environ.items():
        if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = key.removeprefix("HTTP_").replace("_", "-").lower()
            headers.append((name.encode("latin-1"), str(value).encode("latin-1")))
        elif key not in from_wire:
            extra[key] = value
    path = environ.get("SCRIPT_NAME", "").encode("latin-1") + environ["PATH_INFO"].encode("latin-1")
    return {
        "type": "http",
        "http_version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": path.decode("utf-8", "replace"),
        "raw_path": quote_from_bytes(path, safe="/:@!$&'()*+,;=~").encode("ascii"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": environ.get("SCRIPT_NAME", "").encode("latin-1").decode("utf-8", "replace"),
        "headers": headers,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
        "client": (environ.get("REMOTE_ADDR", "127.0.0.1"), 50000),
        _EXTRA: extra,
    }
