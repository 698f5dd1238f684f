"""What tells every worker of one gunicorn that something was written: stamps in memory that they share.

A stamp is a random number in a small table, at a place that follows from a service and a path. A write changes the
stamps of what it may have changed; who keeps an answer remembers the stamps as they were before its call was sent, and
does not use it once they differ. Two paths that fall on one place only cost a call more.

The table must be there before gunicorn forks: `serving/shared_memory.py` has memory that is. A client that is given
none has a table of its own. Gateways on other machines learn nothing of a write: there,
`definition_cache_seconds` is the bound.
"""

import mmap
import os
import zlib
from collections.abc import Iterator

from optimizely_api.upstream.calls import Call

PLACES = 4096
STAMP_BYTES = 8

# What shows parts of what, within a service: writing the one may change all of the others.
SHOWN_IN = {
    "events": ("experiments", "layers"),
    "experiments": ("layers",),
    "layers": ("experiments",),
}
SHOWN_IN_LISTS_OF_ALL = ("/changes", "/search")


class Stamp:
    """How a path's stamps stood when it was made."""

    __slots__ = ("_kind", "_kind_stamp", "_path", "_path_stamp", "_table")

    def __init__(self, table: memoryview, path: int, kind: int) -> None:
        self._table = table
        self._path, self._path_stamp = path, table[path]
        self._kind, self._kind_stamp = kind, table[kind]

    @property
    def holds(self) -> bool:
        """Whether no write has been answered since, as far as this machine knows."""
        return self._table[self._path] == self._path_stamp and self._table[self._kind] == self._kind_stamp


class Stamps:
    """The table, over shared or private memory of `PLACES * STAMP_BYTES` bytes."""

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        self._table = memoryview(memory or private_memory()).cast("Q")

    def of(self, call: Call) -> Stamp:
        """The stamps of what a call reads: of its path, and of all paths beside it."""
        return Stamp(
            self._table,
            _place(call.upstream, call.path),
            _place(call.upstream, call.path[: call.path.rfind("/") + 1]),
        )

    def change(self, call: Call) -> None:
        """Tell everybody that a write was answered, or may have been made though its answer is missing.

        RFC 9111 section 4.4 demands it of the write's own path; the lists above it show it, and so may other kinds.
        """
        for path in changed_paths(call.path):
            # Random, so that two workers that write at the same moment cannot give the stamp its old value.
            self._table[_place(call.upstream, path)] = int.from_bytes(os.urandom(STAMP_BYTES))


def changed_paths(path: str) -> Iterator[str]:
    """What a write at a path may change; a path that ends with a slash stands for all that lie below it.

    >>> list(changed_paths("/experiments/1"))
    ['/experiments/1', '/experiments/1/', '/experiments', '/layers', '/layers/', '/changes', '/search']
    """
    yield path
    yield f"{path}/"
    kind, *rest = path.strip("/").split("/")
    for length in range(len(rest)):
        yield "/" + "/".join((kind, *rest[:length]))
    for other in SHOWN_IN.get(kind, ()):
        yield f"/{other}"
        yield f"/{other}/"
    yield from SHOWN_IN_LISTS_OF_ALL


def private_memory() -> mmap.mmap:
    return mmap.mmap(-1, PLACES * STAMP_BYTES)  # anonymous, and shared with what is forked afterwards


def _place(upstream: str, path: str) -> int:
    # Not hash(), which differs between processes that were started apart.
    return zlib.crc32(f"{upstream} {path}".encode()) % PLACES
