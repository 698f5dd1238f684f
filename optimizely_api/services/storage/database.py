"""Databases of the services: one interface to SQLite files and PostgreSQL.

`Database` provides connections inside a transaction; `migrate` brings a database to the newest revision.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, DateTime, Dialect, Engine, MetaData, TypeDecorator, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from optimizely_api.services.storage.data_version import DataVersion, Version
from optimizely_api.services.storage.deadlines import DEADLINE, DeadlinePassed, seconds_left
from optimizely_api.services.storage.sqlite_driver import Driver
from optimizely_api.services.storage.turns import DatabaseBusy, Turns
from optimizely_api.start_failures import CannotStart

T = TypeVar("T")

POOL_SIZE, POOL_OVERFLOW = 5, 10  # connections of a worker: kept, and opened for a while
BUSY_TIMEOUT_SECONDS = 15.0  # how long a SQLite writer waits for another one
# Of connections to PostgreSQL: silent ones are probed after 15 s and each 5 s, and end after 30 s without any response.
TCP_OPTIONS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
STOP = "stop"  # in the `info` of a connection to SQLite
INSTRUCTIONS_BETWEEN_CHECKS = 50_000  # of SQLite's virtual machine; about a millisecond
MIGRATION_LOCK_TIMEOUT_SECONDS = 120.0
ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
# Classes of SQLSTATE that mean "not now", whatever the statement: connection exception, invalid transaction state
# (read-only after a failover), transaction rollback (deadlock, serialization failure), insufficient resources, object
# not in prerequisite state, operator intervention, system error.
UNAVAILABLE_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
QUERY_CANCELED = "57014"  # in PostgreSQL, by the statement timeout too
# Locked, out of memory or space, unreadable, damaged: none of these is the fault of the statement.
UNAVAILABLE_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
# Alembic keeps the running migration in module globals: a process can run one at a time.
_ALEMBIC_IN_USE = threading.Lock()


class InvalidDatabaseURL(CannotStart, ValueError):
    """A database URL that no service can use; the message says what is wrong with it."""


class NewerDatabase(CannotStart, RuntimeError):
    """The database has been migrated by a newer release; the message names both."""


class UtcTime(TypeDecorator[datetime]):
    """A point in time: in Python always aware and in UTC, stored without a zone where the database has none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC. Refuses a naive time, which does not name a moment."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without zone cannot be stored: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Restore the zone of the stored time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def default_database_url(service: str, environ: Mapping[str, str] | None = None) -> str:
    """The URL that a service uses when the command line has none.

    `<SERVICE>_DATABASE_URL` if set, else the SQLite file `<service>.sqlite3` in `OPTIMIZELY_API_DATA_DIR`
    (default `./var`). Its path is absolute, so that a later change of the working directory does not matter.
    """
    environ = os.environ if environ is None else environ
    if url := environ.get(f"{service.upper()}_DATABASE_URL"):
        return url
    folder = Path(environ.get("OPTIMIZELY_API_DATA_DIR") or "var").absolute()
    return URL.create("sqlite+aiosqlite", database=str(folder / f"{service}.sqlite3")).render_as_string()


def database_url(value: str) -> URL:
    """Parse a database URL and put the asynchronous driver in; SQLite paths become absolute.

    Raises InvalidDatabaseURL for text that is no URL, other databases, and SQLite in memory (every
    worker process would have its own).
    """
    try:
        url = make_url(value)
    except ArgumentError as exc:
        raise InvalidDatabaseURL(f"not a database URL: {value!r}") from exc
    name = url.drivername
    driver = ASYNC_DRIVERS.get(name, name)
    if driver not in ASYNC_DRIVERS.values():
        raise InvalidDatabaseURL(f"unknown database {name!r}; use sqlite:///FILE or postgresql://HOST/NAME")
    url = url.set(drivername=driver)
    if driver != ASYNC_DRIVERS["sqlite"]:
        return url
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise InvalidDatabaseURL(f"SQLite needs a plain file name, shared by all workers: {value!r}")
    return url.set(database=str(Path(url.database).absolute()))


def create_engine(value: str | URL, **options: Any) -> AsyncEngine:
    """Make an asynchronous engine for the URL; SQLite in WAL mode, with every commit synced to disk.

    `options` go to SQLAlchemy's `create_async_engine` (pool_size and the like).
    """
    url = database_url(value) if isinstance(value, str) else value
    if url.get_backend_name() != "sqlite":
        engine = create_async_engine(url, hide_parameters=True, **{"pool_pre_ping": True, **options})
        event.listen(engine.sync_engine, "connect", _notice_a_lost_machine)
        return engine
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, module=Driver(), **_sqlite_options(), **options)
    _listen(engine.sync_engine)
    event.listen(engine.sync_engine, "connect", _make_stoppable)
    return engine


def _notice_a_lost_machine(connection: Any, _record: object) -> None:
    """Have the kernel end the connection when PostgreSQL's machine is lost: a statement would wait for good."""
    sock = connection.driver_connection._transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in TCP_OPTIONS.items():
        if hasattr(socket, name):  # not every system has all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _sqlite_options() -> dict[str, Any]:
    return {"hide_parameters": True, "connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}


def _listen(engine: Engine) -> None:
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)


class _Stop:
    """When the statements on a connection to SQLite stop, as a value of `time.monotonic()`; its progress handler."""

    at = math.inf

    def __call__(self) -> bool:
        return time.monotonic() >= self.at


def _make_stoppable(connection: Any, record: Any) -> None:
    stop = record.info[STOP] = _Stop()
    connection.run_async(lambda driver: driver.set_progress_handler(stop, INSTRUCTIONS_BETWEEN_CHECKS))


@contextlib.contextmanager
def _stopping(connection: AsyncConnection) -> Iterator[None]:
    """Stop SQLite's statements at the request's deadline; raises DeadlinePassed for any that failed after it."""
    deadline = DEADLINE.get()
    stop: _Stop = connection.info.get(STOP) or _Stop()
    stop.at = deadline
    try:
        yield
    except DBAPIError as exc:
        if time.monotonic() >= deadline:
            raise DeadlinePassed from exc
        raise
    finally:
        stop.at = math.inf


@contextlib.contextmanager
def _timed_out() -> Iterator[None]:
    """Raise DeadlinePassed for a statement that PostgreSQL's statement timeout stopped at the request's deadline."""
    try:
        yield
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", None) == QUERY_CANCELED and time.monotonic() >= DEADLINE.get():
            raise DeadlinePassed from exc
        raise


def _threaded_engine(url: URL) -> Engine:
    """A synchronous engine of one connection, for SQLite."""
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite"), pool_size=1, max_overflow=0, **_sqlite_options()
    )
    _listen(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: _begin_sqlite chooses their kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: in WAL mode only FULL syncs a commit to disk before it returns.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once if another one wrote in between, whatever the busy
    # timeout. So a transaction that may write takes the write lock at its start.
    kind = "DEFERRED" if connection.get_execution_options().get("read_only") else "IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN {kind}")


def is_unavailable(error: Exception) -> bool:
    """Whether the error is the database's, not the statement's: another attempt may succeed.

    Drivers raise most such errors as a plain DBAPIError, and those of connecting as they are.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeout | DatabaseBusy | OSError) or _means_not_now(error)
    return error.connection_invalidated or isinstance(error.orig, OSError) or _means_not_now(error.orig)


def _means_not_now(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in UNAVAILABLE_CLASSES
    # The low byte is the primary code, the rest the extended one.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in UNAVAILABLE_SQLITE


# In `AsyncConnection.info` during a transaction: the ids of the projects that it has changed.
CHANGED_PROJECTS = "changed_projects"
# The same for the records of changes that it has made: the values of their columns.
RECORDED = "recorded"
BeforeCommit = Callable[[AsyncConnection, set[int]], Awaitable[None]]


class Database:
    """The database of one service in one worker process; the application opens and closes it.

    `before_commit` is called at the end of each transaction that has changed projects, and is a part of it.
    """

    before_commit: BeforeCommit | None = None

    def __init__(self, url: str | URL, **engine_options: Any) -> None:
        options = {"pool_size": POOL_SIZE, "max_overflow": POOL_OVERFLOW, **engine_options}
        self.engine = create_engine(url, **options)
        connections = options["pool_size"] + options["max_overflow"]
        # SQLite has one writer at a time, and waiting for its lock is polling. The writers of this process wait here
        # instead, and leave the readers all connections but theirs. PostgreSQL has many writers;
        # `results/ingest/store.py` has an advisory lock for batches.
        self._reads = Turns(max(1, connections - 1) if self.is_sqlite else connections)
        self._writes = Turns(1) if self.is_sqlite else self._reads
        self._threaded = _threaded_engine(self.engine.url) if self.is_sqlite else None
        self._version = DataVersion(self.engine.url.database or "") if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite and not PostgreSQL, for the few statements that differ."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that may write: committed at the end, rolled back on an exception.

        On SQLite the transaction takes the write lock at its start, and waits up to BUSY_TIMEOUT_SECONDS for it. Once
        the block has ended without an exception, the data is durable. Raises DatabaseBusy, and DeadlinePassed when the
        time for the request is spent before the transaction begins or, on PostgreSQL, during one of its statements.
        """
        with _timed_out():
            async with self._writes.turn(), self.engine.begin() as connection:
                await self._limit_statements(connection)
                changed = connection.info[CHANGED_PROJECTS] = set[int]()
                connection.info[RECORDED] = []
                yield connection
                if changed and self.before_commit is not None:
                    await self.before_commit(connection, changed)

    async def write(self, work: Callable[[Connection], T], *, is_short: bool) -> T:
        """Run synchronous work in a transaction as `transaction` makes it, but for `before_commit`; return its result.

        Short work on SQLite runs in one thread from BEGIN to COMMIT. In aiosqlite every statement hands over to a
        thread and back, which costs more CPU than a small transaction itself. Long work must yield to the event loop
        and therefore run inside it.
        """
        if self._threaded is None or not is_short:
            async with self.transaction() as connection:
                return await connection.run_sync(work)
        async with self._writes.turn():
            return await asyncio.to_thread(self._write_in_thread, self._threaded, work)

    @staticmethod
    def _write_in_thread(engine: Engine, work: Callable[[Connection], T]) -> T:
        with engine.begin() as connection:
            return work(connection)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a read-only transaction that sees one state of the database. Raises DatabaseBusy.

        Its statements are stopped when the time for the request is spent (DeadlinePassed), or its client has gone.
        """
        async with self._reads.turn(), self.engine.connect() as connection:
            if self.is_sqlite:
                await connection.execution_options(read_only=True)
            else:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with _stopping(connection):
                async with connection.begin():
                    await self._limit_statements(connection)
                    yield connection

    async def _limit_statements(self, connection: AsyncConnection) -> None:
        left = seconds_left()
        if not self.is_sqlite and left < math.inf:
            milliseconds = math.ceil(left * 1000)
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")

    def version(self) -> Version:
        """What is different after every commit; None where only a query shows what is new, as on PostgreSQL."""
        return None if self._version is None else self._version.read()

    def may_have_changed(self, since: Version) -> bool:
        """Whether a query may find anything that it did not find after `since` was read."""
        return since is None or self.version() != since

    async def ping(self) -> None:
        """Select one row; raises the driver's error when the database does not answer."""
        async with self.snapshot() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        if self._version is not None:
            self._version.close()
        await self.engine.dispose()
        if self._threaded is not None:
            await self.engine.dialect.dbapi.stopped()  # type: ignore[union-attr]
            self._threaded.dispose()


def migrate(url: str, script_location: str) -> None:
    """Bring the database at `url` to the newest revision of `script_location`, and wait for it.

    `script_location` names package data, `package:folder` (`optimizely_api.services.projects:migrations`),
    so an installed wheel needs no ini file. Safe when several processes start at once: the others
    wait and then find nothing to do. Raises TimeoutError when the lock is not free within
    MIGRATION_LOCK_TIMEOUT_SECONDS, and NewerDatabase when the database has a revision that is not known
    here. Not for a thread with a running event loop: see `migrate_async`.
    """
    parsed = database_url(url)
    with _ALEMBIC_IN_USE, _sqlite_migration_lock(parsed):
        asyncio.run(_upgrade(parsed, script_location))


async def migrate_async(url: str, script_location: str) -> None:
    """`migrate` from inside an event loop, in a thread."""
    await asyncio.to_thread(migrate, url, script_location)


async def _upgrade(url: URL, script_location: str) -> None:
    engine = create_engine(url)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await _lock_postgresql(connection, script_location)
            await connection.run_sync(_upgrade_on, script_location)
    finally:
        await engine.dispose()


def _upgrade_on(connection: Connection, script_location: str) -> None:
    config = Config()
    config.set_main_option("script_location", script_location)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := set(MigrationContext.configure(connection).get_current_heads()) - known:
        url = connection.engine.url.render_as_string(hide_password=True)
        raise NewerDatabase(
            f"the database {url} is at revision {', '.join(sorted(unknown))}, which this release does not know:"
            " it was migrated by a newer one; use that release, or another database"
        )
    command.upgrade(config, "head")


async def _lock_postgresql(connection: AsyncConnection, script_location: str) -> None:
    # Held until the migration's own transaction ends.
    key = int.from_bytes(hashlib.sha256(script_location.encode()).digest()[:8], signed=True)
    await connection.execute(text(f"SET LOCAL lock_timeout = '{int(MIGRATION_LOCK_TIMEOUT_SECONDS)}s'"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


@contextlib.contextmanager
def _sqlite_migration_lock(url: URL) -> Iterator[None]:
    """Lock `<file>.migrating` while the database file is created, switched to WAL and migrated."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    path = Path(f"{url.database}.migrating")
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + MIGRATION_LOCK_TIMEOUT_SECONDS
    with path.open("w") as lock:
        while not _try_lock(lock.fileno()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process holds {path} for migrating the database")
            time.sleep(0.05)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_migration_environment(metadata: MetaData) -> None:
    """Run the revisions on the connection that `migrate` opened; all that a service's `migrations/env.py` does."""
    from alembic import context  # a proxy that only exists while alembic runs env.py

    connection = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("migrations run through optimizely_api.services.storage.database.migrate")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
