"""Whether a SQLite file has changed, for a small part of what a query costs: so that a service that waits is idle."""

from __future__ import annotations

import sqlite3

# Different after every commit of any connection, in whichever process. None: only a query shows what is new.
Version = tuple[int, int] | None


class DataVersion:
    """Reads SQLite's `data_version`, on a connection of its own and for one event loop.

    That takes microseconds, without a transaction that could wait for others: https://sqlite.org/pragma.html
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened = 0

    def read(self) -> Version:
        """The version of the file now; None when it cannot be read."""
        try:
            if self._connection is None:
                # SQLite counts anew for each connection, so the number of the connection is a part of the version.
                self._opened += 1
                self._connection = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self.close()
            return None
        return self._opened, number

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
