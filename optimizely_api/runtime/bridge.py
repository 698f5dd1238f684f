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
from optimizely_api.runtime.connection import Caller, Receive, Send
from optimizely_api.runtime.environ import Environ, Scope, build_environ
from optimizely_api.runtime.lifespan import Factory, run_lifespan
from optimizely_api.runtime.options import RuntimeOptions
from optimizely_api.runtime.refusals import log_access
from optimizely_api.runtime.watchdog import Watchdog
from optimizely_api.runtime.wsgi_response import Answer, Application, ClientGone, send_problem

OPTIONS_KEY = "optimizely_api.runtime.options"
LIFESPAN_KEY = "optimizely_api.runtime.lifespan"
ROUTE_NAMER_KEY = "optimizely_api.runtime.route_namer"
BODY_OVER_LIMIT = "optimizely_api.body_over_limit"
# In the environ once the application has written the request's line of the access log: (status, uuid) of it.
LOGGED = "optimizely_api.logged"

# A server that names this extension cancels the task of a request whose client has gone, as the worker here does.
# With any other a task of ours has to wait for its `http.disconnect`. The extension's `is_open`, if any, tells whether
# the connection still is: gunicorn says `http.disconnect` also when it has only waited long enough for the body.
CANCELS_ON_DISCONNECT = "optimizely_api.cancels_on_disconnect"

# The methods that some resource knows.
ALLOWED_BY_THE_SERVER = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

# From method and PATH_INFO to the name of what answers there, or None: what the access log calls the route.
RouteNamer = Callable[[str, str], str | None]

log = logging.getLogger(__name__)


class AsgiCaller:
    """The caller of an ASGI scope, under any server."""

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

    The application's registry (`application.registry` unless given) holds the runtime options and the lifespan
    factories; without one the defaults hold. While the lifespan runs, `registry["watchdog"]` is the watchdog of
    this process's event loop.
    """

    def __init__(self, application: Application, registry: Any = None) -> None:
        self._application = application
        self.registry = registry if registry is not None else getattr(application, "registry", None)
        known: dict[str, Any] = {} if self.registry is None else self.registry
        self.options: RuntimeOptions = known.get(OPTIONS_KEY) or RuntimeOptions()
        self._factories: list[Factory] = [*known.get(LIFESPAN_KEY, ()), self._watched]
        self._route_namer: RouteNamer | None = known.get(ROUTE_NAMER_KEY)
        if self.registry is None:
            log.warning(
                "%r has no registry: no lifespan hooks are run, and limits are the defaults", application
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self.serve(self.environ(scope), AsgiCaller(scope, receive, send))
        elif kind == "lifespan":
            await run_lifespan(self._factories, self.registry, receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before `accept`: the server answers 403
        else:
            raise ValueError(f"ASGI scope type {kind!r} is not known here")

    def environ(self, scope: Scope) -> Environ:
        """The environ of a request, all but `wsgi.input`."""
        return build_environ(scope)

    def route_name(self, method: str | None, path_info: str | None) -> str | None:
        """What the application calls the route of a request that it does not answer itself; None where it has none."""
        if self._route_namer is None or method is None or path_info is None:
            return None
        return self._route_namer(method, path_info)

    async def serve(self, environ: Environ, caller: Caller) -> None:
        """Answer one request. A server that makes environ (all but `wsgi.input`) and caller itself needs no scope."""
        began = time.monotonic()
        if environ["PATH_INFO"] == "*":
            await self._answer_for_the_server(environ, caller, began)
            return
        if caller.body is not None:
            environ.pop("HTTP_TRANSFER_ENCODING", None)  # the application reads the decoded content
            caller.body.limit_to(self.options.body_limit(environ["PATH_INFO"]))
            environ["wsgi.input"] = BodyInput(caller.body, environ)
            answer = Answer(caller, is_head=environ["REQUEST_METHOD"] == "HEAD", close=False)
            await self._run(environ, answer, caller.send, began)
            return
        body = b""
        over_limit = more = False
        if not caller.reads_no_body and may_have_body(environ):
            try:
                async with asyncio.timeout(self.options.body_timeout_seconds):
                    body = await read_body(
                        caller.receive,
                        limit_bytes=self.options.body_limit(environ["PATH_INFO"]),
                        declared=declared_length(environ),
                    )
            except BodyTooLarge as exc:
                over_limit, more = True, exc.more
                environ[BODY_OVER_LIMIT] = self.options.body_limit(environ["PATH_INFO"])
            except (BodyIncomplete, TimeoutError) as exc:
                if isinstance(exc, TimeoutError) or caller.is_open():
                    message = "The request's body did not arrive in time."
                    identity = await send_problem(caller.send, 408, "request_timeout", message)
                    self._log_access(environ, 408, identity, began)
                return
            # The body is whole and decoded now, whatever framed it on the wire.
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        answer = Answer(caller, is_head=environ["REQUEST_METHOD"] == "HEAD", close=over_limit)
        if caller.cancels_on_disconnect:
            await self._run(environ, answer, caller.send, began)
        else:
            await _until_disconnect(self._run(environ, answer, caller.send, began), answer, caller.receive)
        if more and environ.get("HTTP_EXPECT", "").lower() != "100-continue":
            await discard_body(caller.receive)

    async def _run(self, environ: Environ, answer: Answer, send: Send, began: float) -> None:
        """Run the application to the end of its answer.

        An exception before the answer has begun is logged and becomes a 500; a later one is left to the server,
        which logs it and closes the connection, since the client cannot be told otherwise.
        """
        try:
            await spawn_greenlet(answer.run, self._application, environ)
            if answer.chunks is not None:
                await answer.send_chunks(answer.chunks)
        except ClientGone:
            return
        except BodyError as error:
            if answer.started:
                raise
            identity = await send_problem(
                send, error.status, error.code, error.message, retry_after_seconds=error.retry_after_seconds
            )
            self._log_access(environ, error.status, identity, began)
        except Exception:
            if answer.complete:
                log.exception("%(REQUEST_METHOD)s %(PATH_INFO)s failed after its answer", environ)
            elif answer.started:
                raise
            else:
                identity = await send_problem(
                    send,
                    500,
                    "internal_error",
                    "The server failed to answer this request.",
                    close=False,
                    identity=environ[LOGGED][1] if LOGGED in environ else None,
                )
                log.exception(
                    "%s %s failed, answered with 500, uuid %s",
                    environ["REQUEST_METHOD"],
                    environ["PATH_INFO"],
                    identity,
                )
                self._log_access(environ, 500, identity, began)

    async def _answer_for_the_server(self, environ: Environ, caller: Caller, began: float) -> None:
        """`OPTIONS *` asks about the server and no resource of it (RFC 9110 section 9.3.7)."""
        identity = str(uuid.uuid4())
        headers = [(b"allow", ALLOWED_BY_THE_SERVER), (b"x-request-id", identity.encode())]
        await caller.send({"type": "http.response.start", "status": 204, "headers": headers})
        await caller.send({"type": "http.response.body", "body": b"", "more_body": False})
        self._log_access(environ, 204, identity, began)

    def _log_access(self, environ: Environ, status: int, identity: str, began: float) -> None:
        if LOGGED in environ and environ[LOGGED][0] == status:
            return
        log_access(
            status,
            identity,
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),
            client=environ["REMOTE_ADDR"] or None,
            route=self.route_name(environ["REQUEST_METHOD"], environ["PATH_INFO"]),
            duration_ms=round((time.monotonic() - began) * 1000, 2),
        )

    @asynccontextmanager
    async def _watched(self, registry: Any) -> AsyncIterator[None]:
        """The lifespan's innermost context: the watchdog, which starts when nothing else is starting any more."""
        with Watchdog(self.options.stall_warning_seconds) as watchdog:
            if registry is not None:
                registry["watchdog"] = watchdog
            yield


async def _until_disconnect(serving: Awaitable[None], answer: Answer, receive: Receive) -> None:
    """Await `serving`, and cancel it when the server reports that the client has gone.

    It runs in the caller's own task: the one extra task is the one that listens.
    """
    task = cast("asyncio.Task[None]", asyncio.current_task())
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not answer.complete:
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
