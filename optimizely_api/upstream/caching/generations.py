"""Cross-worker cache invalidation: generations in memory that all workers of one gunicorn share.

A generation is a random number in a small table; its index is a hash of a service and a path. A write replaces the
generations of everything that it may have changed. The caches remember the generations from before each call was sent
(`Snapshot`) and drop a value once they differ. A hash collision only costs one extra call.

The table must exist before gunicorn forks its workers: `serving/shared_memory.py` creates it in the master. A client
without shared memory has a table of its own. Gateways on other machines do not notice a write:
`definition_cache_seconds` bounds how long their values may be out of date.
"""

import mmap
import os
import zlib
from collections.abc import Iterator

from optimizely_api.upstream.calls import Call

ENTRIES = 4096
GENERATION_BYTES = 8
TABLE_BYTES = ENTRIES * GENERATION_BYTES

# Which entities of a service show parts of which others: a write to any of the first kind may change all of the rest.
SHOWN_IN = {
    "attributes": ("audiences",),
    "events": ("experiments", "layers"),
    # With its `url_targeting` an experiment brings a page along, and a page is an event too: that it is seen.
    "experiments": ("layers", "audiences", "extensions", "pages", "events"),
    "features": ("audiences", "experiments"),
    "layers": ("experiments", "audiences", "extensions", "pages", "events"),
    "pages": ("experiments", "layers", "events"),
    "sections": ("experiments", "layers", "extensions"),
}
SHOWN_IN_LISTS_OF_ALL = ("/changes", "/search", "/datafiles/", "/snippets")
HISTORY = ("experiments", "/changes")  # of the other services' entities too


class Snapshot:
    """The generations of a path and of its parent folder, at the time the snapshot was taken."""

    __slots__ = ("_folder", "_folder_generation", "_path", "_path_generation", "_table")

    def __init__(self, table: memoryview, path: int, folder: int) -> None:
        self._table = table
        self._path, self._path_generation = path, table[path]
        self._folder, self._folder_generation = folder, table[folder]

    @property
    def is_current(self) -> bool:
        """Whether no write was made since, as far as this machine knows."""
        table = self._table
        return table[self._path] == self._path_generation and table[self._folder] == self._folder_generation


class Generations:
    """The table, at the beginning of shared or private memory of at least `2 * TABLE_BYTES`."""

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        self._table = memoryview(memory or private_memory())[:TABLE_BYTES].cast("Q")

    def snapshot(self, call: Call) -> Snapshot:
        """Return the generations that a call reads: of its path, and of its folder ("/layers/" for "/layers/1")."""
        return Snapshot(
            self._table,
            _index(call.upstream, call.path),
            _index(call.upstream, call.path[: call.path.rfind("/") + 1]),
        )

    def advance(self, call: Call) -> None:
        """Invalidate, in every worker, what a write changed or, if its response is missing, may have changed.

        RFC 9111 section 4.4 demands this for the path of the write; here the lists above it and the entities that show
        it are invalidated too.
        """
        for path in changed_paths(call.path):
            self._change(call.upstream, path)
        if call.upstream != HISTORY[0]:
            self._change(*HISTORY)

    def _change(self, upstream: str, path: str) -> None:
        self._table[_index(upstream, path)] = _new_generation()


class Refusals:
    """Generations of tokens by their hashes, behind the table of `Generations`: a refusal replaces its token's.

    A table of its own: whoever guesses tokens must not make stale what is kept of entities.
    """

    def __init__(self, memory: mmap.mmap | None = None) -> None:
        self._table = memoryview(memory or private_memory())[TABLE_BYTES : 2 * TABLE_BYTES].cast("Q")

    def generation(self, token_sha256: str) -> int:
        """Another one than before if the token was refused since, in any worker."""
        return self._table[_refusal_index(token_sha256)]

    def note(self, token_sha256: str) -> None:
        self._table[_refusal_index(token_sha256)] = _new_generation()


def changed_paths(path: str) -> Iterator[str]:
    """Yield the paths that a write to `path` may change; a path that ends with a slash stands for all below it.

    >>> list(changed_paths("/experiments/1"))
    ['/experiments/1', '/experiments/1/', '/experiments', '/layers', '/layers/', '/audiences', '/audiences/',
     '/extensions', '/extensions/', '/pages', '/pages/', '/events', '/events/', '/changes', '/search', '/datafiles/',
     '/snippets']
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
    return mmap.mmap(-1, 2 * TABLE_BYTES)  # anonymous; shared with processes forked later


def _new_generation() -> int:
    # Random, not counted up: two workers that write at once must never restore an old number.
    return int.from_bytes(os.urandom(GENERATION_BYTES))


def _refusal_index(token_sha256: str) -> int:
    return zlib.crc32(token_sha256.encode()) % ENTRIES


def _index(upstream: str, path: str) -> int:
    # Not hash(): its seed differs between processes that were not forked from one another.
    return zlib.crc32(f"{upstream} {path}".encode()) % ENTRIES
