"""What running views in greenlets relies on of asyncio."""

import asyncio
import functools

from optimizely_api.foreign_names import PYTHON, Reliance

ASYNCIO = Reliance(
    PYTHON,
    "run this on Python 3.11 to 3.14",
    used={asyncio.Future: {"_asyncio_future_blocking": "handing a call from a greenlet to its task"}},
)


@functools.cache
def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone; once in a process."""
    ASYNCIO.check()
