"""Splits the process's limit of open files between client and upstream connections.

A request in flight needs its client's connection, and up to one connection to each service at a time. If the limit is
lower than the settings need, client connections get 55 % of it and upstream connections, whose calls are shared, the
rest. Then nothing fails for lack of a file: clients wait in the listening socket's backlog, calls in the connector.
"""

import contextlib
import math
import resource
from typing import Any

# Reserved for logs, listening sockets and the like, and a share for connections that are closed but still have a file.
RESERVED = 64
RESERVED_SHARE = 16  # one in sixteen
SHARE_OF_CLIENTS = 0.55


def allow_many_files() -> int:
    """Raise this process's limit to the hard limit, and return the new limit.

    Many systems start programs with a soft limit of 1,024, for those that use select(2), and allow more on request.
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


def for_clients(share: float = SHARE_OF_CLIENTS) -> int:
    """Return the number of possible client connections, at least one."""
    return max(1, int(_for_connections() * share))


def for_services() -> int:
    """Return the number of possible connections to all services together, at least one for each of the three."""
    return max(3, _for_connections() - for_clients())


def possible_connections(configured: int, name: str, log: Any, share: float = 1.0) -> int:
    """Return how many of the client connections that the setting `name` asks for are possible.

    Raises the limit first, and logs a warning if not all are possible. `share` is the clients' part of all files.
    """
    before, allowed = limit(), allow_many_files()
    if allowed != before:
        log.info("Raised the limit of open files from %d to %d", before, allowed)
    possible = for_clients(share)
    if configured > possible:
        log.warning(
            "Only %d files may be open: of %s = %d, %d are possible at a time, and others wait. "
            "For all of them raise the limit (ulimit -n, LimitNOFILE=) to %d",
            allowed,
            name,
            configured,
            possible,
            needed(configured, share),
        )
    return min(configured, possible)


def needed(clients: int, share: float = SHARE_OF_CLIENTS) -> int:
    """Return the limit (RLIMIT_NOFILE) needed for this many client connections."""
    return math.ceil((clients / share + RESERVED) * RESERVED_SHARE / (RESERVED_SHARE - 1)) + 2
