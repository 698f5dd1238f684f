"""The heartbeat of a gunicorn worker to its master; the worker ends if its master has gone."""

import os
from collections.abc import Awaitable, Callable
from typing import Any


async def beat(worker: Any, pause: Callable[[], Awaitable[Any]]) -> None:
    """Beat until the worker must stop or its master has gone; `pause` takes a second, or less when it must stop."""
    while worker.alive:
        worker.notify()
        if worker.ppid != os.getppid():
            worker.log.info("Parent changed, shutting down: %s", worker)
            return
        await pause()
