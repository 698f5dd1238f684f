"""Start-up and shut-down: runs the registry's lifespan factories on ASGI's lifespan messages."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

Factory = Callable[[Any], AbstractAsyncContextManager[Any]]
Message = dict[str, Any]

log = logging.getLogger(__name__)


async def run_lifespan(
    factories: list[Factory],
    registry: Any,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Enter the context of every factory in order, and leave them in reverse order at shut-down.

    Everything runs in one task. A failure is logged with its traceback and reported to the server, which stops after a
    failed start-up.
    """
    await receive()
    async with AsyncExitStack() as stack:
        try:
            for factory in factories:
                await stack.enter_async_context(factory(registry))
        except Exception as exc:
            log.exception("start-up failed")
            await send({"type": "lifespan.startup.failed", "message": f"{type(exc).__name__}: {exc}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await stack.aclose()
        except Exception as exc:
            log.exception("shut-down failed")
            await send({"type": "lifespan.shutdown.failed", "message": f"{type(exc).__name__}: {exc}"})
            return
    await send({"type": "lifespan.shutdown.complete"})
