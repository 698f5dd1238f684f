"""How many files, and so connections, this process may have open, and who may have how many of them.

A request in flight takes a connection of its caller and up to one to each service at a time. When there are fewer files
than the settings ask for, callers get a good half of them, and the services, whose calls are shared, the rest: then
nothing fails for want of a file, but waits for one, callers in the listening socket's backlog and calls in the
connector.
"""

import contextlib
import math
import resource
from typing import Any

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


def for_callers(share: float = SHARE_OF_CALLERS) -> int:
    """Connections that callers may have, at least one."""
    return max(1, int(_for_connections() * share))


def for_services() -> int:
    """Connections to all services together, at least one for each of three."""
    return max(3, _for_connections() - for_callers())


def possible_connections(wanted: int, name: str, log: Any, share: float = 1.0) -> int:
    """The connections that callers of this process may have, of so many wanted by the setting `name`.

    The limit is raised first, and fewer are logged. `share` is what callers get of all connections.
    """
    before, allowed = limit(), allow_many_files()
    if allowed != before:
        log.info("Raised the limit of open files from %d to %d", before, allowed)
    possible = for_callers(share)
    if wanted > possible:
        log.warning(
            "Only %d files may be open: of %s = %d, %d are possible at a time, and others wait. "
            "For all of them raise the limit (ulimit -n, LimitNOFILE=) to %d",
            allowed,
            name,
            wanted,
            possible,
            needed(wanted, share),
        )
    return min(wanted, possible)


def needed(callers: int, share: float = SHARE_OF_CALLERS) -> int:
    """The limit with which so many callers may be connected."""
    return math.ceil((callers / share + RESERVED) * RESERVED_SHARE / (RESERVED_SHARE - 1)) + 2
