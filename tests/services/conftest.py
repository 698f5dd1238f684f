"""Services on real sockets, each test with a database of its own, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from optimizely_api.services.database import Database, migrate_async
from optimizely_api.services.database import database_url as read_url
from optimizely_api.services.server import SERVICES
from optimizely_api.services_key import authorization
from tests import samples
from tests.ports import free_port

IN_CI = os.environ.get("CI", "").lower() == "true"
CI_POSTGRESQL_URL = "postgresql+asyncpg://postgres@127.0.0.1:5432/test"
POSTGRESQL_URL = os.environ.get("TEST_POSTGRESQL_URL") or (CI_POSTGRESQL_URL if IN_CI else "")


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
async def own_postgresql_database() -> AsyncIterator[str]:
    """The URL of a new, empty PostgreSQL database, dropped afterwards."""
    if not POSTGRESQL_URL:
        pytest.skip("TEST_POSTGRESQL_URL is not set")
    name = f"services_{uuid.uuid4().hex}"
    admin = create_async_engine(read_url(POSTGRESQL_URL), isolation_level="AUTOCOMMIT")
    try:
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(POSTGRESQL_URL).set(database=name).render_as_string(hide_password=False)
    finally:
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        await admin.dispose()


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


NewDatabase = Callable[[], Awaitable[str]]
Serve = Callable[[str, str], Awaitable[Caller]]


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewDatabase]:
    """A function that makes another empty database of the kind under test."""
    async with AsyncExitStack() as stack:

        async def make() -> str:
            if request.param == "sqlite":
                return f"sqlite:///{tmp_path / uuid.uuid4().hex}.sqlite3"
            return await stack.enter_async_context(own_postgresql_database())

        yield make


@pytest_asyncio.fixture
async def database_url(new_database: NewDatabase) -> str:
    """The URL of an empty database."""
    return await new_database()


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """A function that starts a service by name on a database, migrating it first."""
    async with AsyncExitStack() as stack:

        async def start(name: str, url: str) -> Caller:
            service = SERVICES[name]
            await migrate_async(url, service.migrations)
            return await stack.enter_async_context(running(service.create_application(url), url))

        yield start


@pytest_asyncio.fixture
async def projects(serve: Serve, database_url: str) -> Caller:
    """A caller of a projects service without any data."""
    return await serve("projects", database_url)


@pytest_asyncio.fixture
async def experiments(serve: Serve, database_url: str) -> Caller:
    """A caller of an experiments service without any data."""
    return await serve("experiments", database_url)
