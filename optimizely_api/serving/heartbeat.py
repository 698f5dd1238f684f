"""What a gunicorn worker does beside its work: it tells the master that it is well, and ends without a master."""

import os
from collections.abc import Awaitable, Callable
from typing import Any


async def beat(worker: Any, pause: Callable[[], Awaitable[Any]]) -> None:
    """Until the worker is told to stop, or its master has gone; `pause` ends after a second, or when it is told."""
    while worker.alive:
        worker.notify()
        if worker.ppid != os.getppid():
            worker.log.info("Parent changed, shutting down: %s", worker)
            return
        await pause()
