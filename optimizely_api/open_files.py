"""How many files, and so connections, this process may have open, and who may have how many of them.

A request in flight takes a connection of its caller and up to one to each service at a time. When there are fewer files
than the settings ask for, callers get a good half of them, and the services, whose calls are shared, the rest: then
nothing fails for want of a file, but waits for one, callers in the listening socket's backlog and calls in the
connector.
"""

import contextlib
import math
import resource

# Kept free: for logs, listening sockets and the like, and a share for connections that are closed but not gone yet.
RESERVED = 64
RESERVED_SHARE = 16  # one in sixteen
SHARE_OF_CALLERS = 0.55


def allow_many_files() -> int:
    """Raise this process's limit to what the system grants it, and return the limit.

    Many systems start programs with 1,024, for the sake of those that use select(2), and allow more to who asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def _for_connections() -> int:
    allowed = limit()
    return allowed - RESERVED - allowed // RESERVED_SHARE


def for_callers() -> int:
    """Connections that callers may have, at least one."""
    return max(1, int(_for_connections() * SHARE_OF_CALLERS))


def for_services() -> int:
    """Connections to all services together, at least one for each of three."""
    return max(3, _for_connections() - for_callers())


def needed(callers: int) -> int:
    """The limit with which so many callers may be connected."""
    return math.ceil((callers / SHARE_OF_CALLERS + RESERVED) * RESERVED_SHARE / (RESERVED_SHARE - 1)) + 2
