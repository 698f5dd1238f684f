"""How many files, and so connections, this process may have open."""

import contextlib
import resource


def allow_many_files() -> None:
    """Raise this process's limit of open files, and so of connections, to what the system grants it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
