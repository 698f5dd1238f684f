"""Ports to listen on, for a server that is told its port and binds it later.

They are outside the range from which the kernel takes the ports of outgoing connections: no connection takes one before
its server does, and connections that are over (TIME_WAIT) keep none of them busy. With the whole of that range waiting,
even binding port 0 is "address already in use". A lock on byte N of one file for port N keeps other runs of these tests
on this machine from it, and ends with the process.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

LOWEST = 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
HIGHEST = (int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768) - 1
_locks: list[IO[bytes]] = []
_taken: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, kept from other runs of the tests while this process lives."""
    for _ in range(1000):
        port = random.randint(LOWEST, HIGHEST)
        if port not in _taken and _locked(port):
            _taken.add(port)
            if _can_be_bound(port):
                return port
    raise AssertionError(f"no port between {LOWEST} and {HIGHEST} is free")


def listening_socket(backlog: int = 128) -> socket.socket:
    """A socket that listens on such a port."""
    return socket.create_server(("127.0.0.1", free_port()), backlog=backlog)


def _locked(port: int) -> bool:
    if not _locks:
        path = Path(tempfile.gettempdir()) / f"optimizely-api-tests-{os.getuid()}.ports"
        _locks.append(path.open("ab"))
    try:
        fcntl.lockf(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
