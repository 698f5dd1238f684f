"""A WSGI application of coroutine views as an ASGI 3 application: one greenlet for every request."""

import asyncio
import io
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from optimizely_api.runtime.aiopyramid_compat import spawn_greenlet
from optimizely_api.runtime.body import (
    BodyIncomplete,
    BodyTooLarge,
    declared_length,
    discard_body,
    may_have_body,
    read_body,
)
from optimizely_api.runtime.body_input import BodyError, BodyInput
from optimizely_api.runtime.connection import Connection, Receive, Send
from optimizely_api.runtime.environ import Environ, Scope, build_environ
from optimizely_api.runtime.lifespan import Factory, run_lifespan
from optimizely_api.runtime.options import RuntimeOptions
from optimizely_api.runtime.refusals import log_access
from optimizely_api.runtime.watchdog import Watchdog
from optimizely_api.runtime.wsgi_response import Application, ClientGone, WsgiResponse, send_error

OPTIONS_KEY = "optimizely_api.runtime.options"
LIFESPAN_KEY = "optimizely_api.runtime.lifespan"
ROUTE_NAMER_KEY = "optimizely_api.runtime.route_namer"
CLASSIFIER_KEY = "optimizely_api.runtime.classifier"
BODY_OVER_LIMIT = "optimizely_api.body_over_limit"
# Key of the environ: (status, uuid) of the request's access-log line, once the application has written it.
LOGGED = "optimizely_api.logged"
# Key of the environ: when the request came, on `time.monotonic()`, if it had to wait before it began.
CAME_AT = "optimizely_api.came_at"

# A server with this extension cancels the task of a request whose client has gone, as our worker does. With any other
# server, a task of ours waits for `http.disconnect`. The extension may have an `is_open` function, because gunicorn
# sends `http.disconnect` also when it has waited long enough for the body of a client that is still connected.
CANCELS_ON_DISCONNECT = "optimizely_api.cancels_on_disconnect"

# Methods that at least one resource supports.
ALLOWED_BY_THE_SERVER = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

# Maps method and PATH_INFO to the name of the route in the access log, or None.
RouteNamer = Callable[[str, str], str | None]

# Maps method, path and Authorization header to the class of a request (`serving/line.py`) and its account: 0 for none,
# below 0 for callers who have only their turn in common. It decides which requests an overloaded worker refuses.
Classifier = Callable[[bytes, bytes, bytes | None], tuple[int, int]]

log = logging.getLogger(__name__)


class AsgiConnection:
    """The connection of an ASGI scope, under any server."""

    __slots__ = ("_extension", "receive", "send")
    send_whole = None
    body = None
    reads_no_body = False

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._extension: dict[str, Any] | None = scope.get("extensions", {}).get(CANCELS_ON_DISCONNECT)
        self.receive = receive
        self.send = send

    @property
    def cancels_on_disconnect(self) -> bool:
        return self._extension is not None

    def is_open(self) -> bool:
        extension = self._extension or {}
        return "is_open" in extension and bool(extension["is_open"]())


class AsgiBridge:
    """Serves `application` under any ASGI server.

    The runtime options and the lifespan factories are in the registry, by default `application.registry`; without a
    registry the default options apply. While the lifespan runs, `registry["watchdog"]` is the watchdog of this
    process's event loop.
    """

    def __init__(self, application: Application, registry: Any = None) -> None:
        self._application = application
        self.registry = registry if registry is not None else getattr(application, "registry", None)
        settings: dict[str, Any] = {} if self.registry is None else self.registry
        self.options: RuntimeOptions = settings.get(OPTIONS_KEY) or RuntimeOptions()
        self._factories: list[Factory] = [*settings.get(LIFESPAN_KEY, ()), self._watched]
        self.classifier: Classifier | None = settings.get(CLASSIFIER_KEY)
        self._route_namer: RouteNamer | None = settings.get(ROUTE_NAMER_KEY)
        if self.registry is None:
            log.warning(
                "%r has no registry: no lifespan hooks are run, and limits are the defaults", application
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self.serve(self.environ(scope), AsgiConnection(scope, receive, send))
        elif kind == "lifespan":
            await run_lifespan(self._factories, self.registry, receive, send)
        elif kind == "websocket":
            await receive()
            # Before `accept`, so the server responds with 403.
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise ValueError(f"ASGI scope type {kind!r} is not known here")

    def environ(self, scope: Scope) -> Environ:
        """Return the environ of a request, without `wsgi.input`."""
        return build_environ(scope)

    def route_name(self, method: str | None, path_info: str | None) -> str | None:
        """Return the route of a request that does not reach the application, for the access log; None without one."""
        if self._route_namer is None or method is None or path_info is None:
            return None
        return self._route_namer(method, path_info)

    async def serve(self, environ: Environ, connection: Connection) -> None:
        """Serve one request; `environ` is without `wsgi.input`. A server that builds both arguments needs no scope."""
        started = environ.get(CAME_AT) or time.monotonic()
        if environ["PATH_INFO"] == "*":
            await self._respond_for_the_server(environ, connection, started)
            return
        if connection.body is not None:
            environ.pop("HTTP_TRANSFER_ENCODING", None)  # the application reads the decoded content
            connection.body.limit_to(self.options.body_limit(environ["PATH_INFO"]))
            environ["wsgi.input"] = BodyInput(connection.body, environ)
            response = WsgiResponse(connection, is_head=environ["REQUEST_METHOD"] == "HEAD", close=False)
            await self._run(environ, response, connection.send, started)
            return
        body = b""
        over_limit = more = False
        if not connection.reads_no_body and may_have_body(environ):
            try:
                async with asyncio.timeout(self.options.body_timeout_seconds):
                    body = await read_body(
                        connection.receive,
                        limit_bytes=self.options.body_limit(environ["PATH_INFO"]),
                        declared=declared_length(environ),
                    )
            except BodyTooLarge as exc:
                over_limit, more = True, exc.more
                environ[BODY_OVER_LIMIT] = self.options.body_limit(environ["PATH_INFO"])
            except (BodyIncomplete, TimeoutError) as exc:
                if isinstance(exc, TimeoutError) or connection.is_open():
                    message = "The request's body did not arrive in time."
                    error_id = await send_error(connection.send, 408, "request_timeout", message)
                    self._log_access(environ, 408, error_id, started)
                return
            # The body is complete and decoded now, however it was framed on the wire.
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        response = WsgiResponse(connection, is_head=environ["REQUEST_METHOD"] == "HEAD", close=over_limit)
        if connection.cancels_on_disconnect:
            await self._run(environ, response, connection.send, started)
        else:
            serving = self._run(environ, response, connection.send, started)
            await _until_disconnect(serving, response, connection.receive)
        if more and environ.get("HTTP_EXPECT", "").lower() != "100-continue":
            await discard_body(connection.receive)

    async def _run(self, environ: Environ, response: WsgiResponse, send: Send, started: float) -> None:
        """Run the application to the end of its response.

        An exception before the response has started is logged and becomes a 500. A later one is left to the server,
        which logs it and closes the connection: that is the only way to show the client that the response is broken.
        """
        try:
            await spawn_greenlet(response.run, self._application, environ)
            if response.chunks is not None:
                await response.send_chunks(response.chunks)
        except ClientGone:
            return
        except BodyError as error:
            if response.started:
                raise
            error_id = await send_error(
                send, error.status, error.code, error.message, retry_after_seconds=error.retry_after_seconds
            )
            self._log_access(environ, error.status, error_id, started)
        except Exception:
            if response.complete:
                log.exception("%(REQUEST_METHOD)s %(PATH_INFO)s failed after its answer", environ)
            elif response.started:
                raise
            else:
                error_id = await send_error(
                    send,
                    500,
                    "internal_error",
                    "The server failed to answer this request.",
                    close=False,
                    error_id=environ[LOGGED][1] if LOGGED in environ else None,
                )
                log.exception(
                    "%s %s failed, answered with 500, uuid %s",
                    environ["REQUEST_METHOD"],
                    environ["PATH_INFO"],
                    error_id,
                )
                self._log_access(environ, 500, error_id, started)

    async def _respond_for_the_server(self, environ: Environ, connection: Connection, started: float) -> None:
        """Respond to `OPTIONS *`, which is about the server, not about a resource (RFC 9110 section 9.3.7)."""
        request_id = str(uuid.uuid4())
        headers = [(b"allow", ALLOWED_BY_THE_SERVER), (b"x-request-id", request_id.encode())]
        await connection.send({"type": "http.response.start", "status": 204, "headers": headers})
        await connection.send({"type": "http.response.body", "body": b"", "more_body": False})
        self._log_access(environ, 204, request_id, started)

    def _log_access(self, environ: Environ, status: int, request_id: str, started: float) -> None:
        # The application's own line has more fields; ours is for requests that it did not finish.
        if LOGGED in environ and environ[LOGGED][0] == status:
            return
        log_access(
            status,
            request_id,
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),
            client=environ["REMOTE_ADDR"] or None,
            route=self.route_name(environ["REQUEST_METHOD"], environ["PATH_INFO"]),
            duration_ms=round((time.monotonic() - started) * 1000, 2),
        )

    @asynccontextmanager
    async def _watched(self, registry: Any) -> AsyncIterator[None]:
        """The innermost context of the lifespan: the watchdog. Started last, it does not report the start-up itself."""
        with Watchdog(self.options.stall_warning_seconds) as watchdog:
            if registry is not None:
                registry["watchdog"] = watchdog
            yield


async def _until_disconnect(serving: Awaitable[None], response: WsgiResponse, receive: Receive) -> None:
    """Await `serving`, and cancel it when the server reports that the client has gone.

    `serving` runs in the current task; the only additional task waits for the server's message.
    """
    task = cast("asyncio.Task[None]", asyncio.current_task())
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not response.complete:
            gone = True
            task.cancel()

    listener = asyncio.create_task(listen())
    try:
        await serving
    except asyncio.CancelledError:
        if not gone or task.uncancel() > 0:
            raise
    finally:
        listener.cancel()
