"""Services on real sockets, each test with a database of its own, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.database import Database
from optimizely_api.services_key import authorization
from tests.services.databases import (
    PostgreSQLDatabases,
    SQLiteDatabases,
    create_postgresql,
    drop_postgresql,
)
from tests.support import samples
from tests.support.ports import free_port


class Caller:
    """A client of one service: every method returns (status, JSON body or None)."""

    def __init__(self, session: aiohttp.ClientSession, url: str, database_url: str) -> None:
        self.session, self.url, self.database_url = session, url, database_url

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Send one request; `json` in the options becomes the body."""
        async with self.session.request(method, f"{self.url}{path}", **options) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else None

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> tuple[int, Any]:
        """POST."""
        return await self.call("POST", path, json=json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> tuple[int, Any]:
        """PATCH."""
        return await self.call("PATCH", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> tuple[int, Any]:
        """DELETE."""
        return await self.call("DELETE", path, **options)

    async def made(self, path: str, json: Any = None, **options: Any) -> Any:
        """POST, and insist on 201."""
        status, body = await self.post(path, json, **options)
        assert status == 201, body
        return body


def session_with_key(key: str = samples.SERVICES_KEY) -> aiohttp.ClientSession:
    """A client that sends the services' key with each request."""
    return aiohttp.ClientSession(headers=authorization(key))


@asynccontextmanager
async def running(application: web.Application, database_url: str = "") -> AsyncIterator[Caller]:
    """The application on a free port of this machine, and a caller of it."""
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", free_port()).start()
        host, port = runner.addresses[0][:2]
        async with session_with_key() as session:
            yield Caller(session, f"http://{host}:{port}", database_url)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def killed_projects_service(database_url: str, log: Path, **variables: str) -> AsyncIterator[None]:
    """Two workers of the projects service and their master, which are killed at the end of the block."""
    command = [sys.executable, "-m", "optimizely_api.cli", "service", "projects", "--workers", "2"]
    command += ["--port", str(free_port()), "--database-url", database_url]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def own_postgresql_database() -> AsyncIterator[str]:
    """The URL of a new, empty PostgreSQL database that no other test gets, dropped afterwards."""
    url = await create_postgresql()
    try:
        yield url
    finally:
        await drop_postgresql(url)


async def migrate_to(database_url: str, service: str, revision: str) -> None:
    """Bring the service's database to the revision: forth to `head`, back to any other."""

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", SERVICES[service].migrations)
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        (command.downgrade if revision != "head" else command.upgrade)(config, revision)

    database = Database(database_url)
    try:
        async with database.transaction() as connection:
            await connection.run_sync(run)
    finally:
        await database.close()


class NewDatabase(Protocol):
    """The URL of another database of the kind under test: as the service's migrations leave it, or empty."""

    def __call__(self, service: str = "") -> Awaitable[str]: ...


class Serve(Protocol):
    """Start a service by name, on the migrated database at the URL or on one without any data."""

    def __call__(self, name: str, url: str | None = None) -> Awaitable[Caller]: ...


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> SQLiteDatabases:
    """Files of one run of the tests."""
    return SQLiteDatabases(tmp_path_factory.mktemp("migrated"))


@pytest.fixture(scope="session")
def postgresql_databases() -> Iterator[PostgreSQLDatabases]:
    """Databases of one run of the tests, dropped at its end."""
    databases = PostgreSQLDatabases()
    yield databases
    asyncio.run(databases.drop())


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def new_database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqlite_databases: SQLiteDatabases,
    postgresql_databases: PostgreSQLDatabases,
) -> AsyncIterator[NewDatabase]:
    """A function that makes a database of the kind under test, for this test alone."""
    borrowed: list[tuple[str, str]] = []

    async def make(service: str = "") -> str:
        if request.param == "sqlite":
            return await sqlite_databases.create(service, tmp_path)
        url = await postgresql_databases.borrow(service)
        borrowed.append((service, url))
        return url

    yield make
    for service, url in borrowed:
        postgresql_databases.give_back(service, url)


@pytest_asyncio.fixture
async def database_url(new_database: NewDatabase) -> str:
    """The URL of an empty database."""
    return await new_database()


@pytest_asyncio.fixture
async def serve(new_database: NewDatabase) -> AsyncIterator[Serve]:
    """A function that starts a service, which ends before the next test gets its database."""
    async with AsyncExitStack() as stack:

        async def start(name: str, url: str | None = None) -> Caller:
            url = url or await new_database(name)
            return await stack.enter_async_context(running(SERVICES[name].create_application(url), url))

        yield start


@pytest_asyncio.fixture
async def projects(serve: Serve) -> Caller:
    """A caller of a projects service without any data."""
    return await serve("projects")


@pytest_asyncio.fixture
async def experiments(serve: Serve) -> Caller:
    """A caller of an experiments service without any data."""
    return await serve("experiments")
