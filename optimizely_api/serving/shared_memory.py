"""Memory that all workers of one gunicorn share.

It must exist before gunicorn forks its workers: a worker class calls `shared_memory()` in its `setup()`, which gunicorn
runs in the master, and it survives a HUP. Any other process has memory of its own.
"""

import functools
import mmap

TABLES_BYTES = 64 * 1024  # two tables of upstream/caching/generations.py


@functools.cache
def shared_memory() -> mmap.mmap:
    """The one memory of this process and of all processes that it forks from now on."""
    return mmap.mmap(-1, TABLES_BYTES)  # anonymous; shared with processes forked later
