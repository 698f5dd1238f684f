"""Memory that all workers of one gunicorn share.

It must be there before gunicorn forks: a worker class calls `shared_memory()` in its `setup()`, which gunicorn runs in
the master, and a HUP keeps it. A process that was not forked so has memory of its own.
"""

import functools
import mmap

BYTES = 32 * 1024  # what upstream/caching/generations.py needs


@functools.cache
def shared_memory() -> mmap.mmap:
    """The one piece of this process and of all that it forks from now on."""
    return mmap.mmap(-1, BYTES)  # anonymous, and shared with what is forked afterwards
