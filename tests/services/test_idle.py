"""A service that nobody calls leaves SQLite alone; PostgreSQL has to be asked whether something was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event

from optimizely_api.services.http.addresses import EXPERIMENTS_URL
from optimizely_api.services.storage.data_version import Version
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Serve

LOOKS = 8  # of a background task that looks four times a second


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that the database has got."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "after_cursor_execute", note)
    yield seen
    event.remove(Engine, "after_cursor_execute", note)


@pytest.mark.parametrize("name", ["projects", "experiments"])
async def test_sqlite_gets_no_statement_while_nothing_is_committed(
    name: str, serve: Serve, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = asyncio.Semaphore(0)
    may_have_changed = Database.may_have_changed

    def look(database: Database, since: Version) -> bool:
        looks.release()
        return may_have_changed(database, since)

    monkeypatch.setattr(Database, "may_have_changed", look)
    monkeypatch.setenv(EXPERIMENTS_URL, "http://127.0.0.1:9")  # with it the projects service has its sender
    service = await serve(name)
    async with asyncio.timeout(30):
        for _ in range(2):  # the second look comes after the first one's query
            await looks.acquire()
        statements.clear()
        for _ in range(LOOKS):
            await looks.acquire()
    assert (statements == []) == service.database_url.startswith("sqlite")
