"""A statement on SQLite is one visit to the connection's thread, and has all that SQLAlchemy wants to know of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
import pytest_asyncio
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from optimizely_api.services.storage.database import Database

things = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text))


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/x.sqlite3")
    async with database.transaction() as connection:
        await connection.run_sync(things.metadata.create_all)
        await connection.execute(insert(things), [{"id": number, "name": "a"} for number in (1, 2, 3)])
    yield database
    await database.close()


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been done in the threads of connections."""
    done: list[Any] = []
    execute = aiosqlite.Connection._execute

    async def noted(self: aiosqlite.Connection, function: Any, *args: Any, **kwargs: Any) -> Any:
        done.append(function)
        return await execute(self, function, *args, **kwargs)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", noted)
    return done


@pytest.mark.parametrize(
    "statement", [select(things), update(things).values(name="b"), text("UPDATE things SET name = 'b'")]
)
async def test_a_statement_is_one_visit(database: Database, visits: list[Any], statement: Any) -> None:
    async with database.transaction() as connection:
        visits.clear()
        await connection.execute(statement)
        assert len(visits) == 1


async def test_rows_have_their_names_and_an_empty_result_has_none(database: Database) -> None:
    async with database.snapshot() as connection:
        (first, *_) = await connection.execute(select(things).order_by(things.c.id))
        nothing = await connection.execute(select(things).where(things.c.id > 3))
        assert (first.id, first.name, nothing.keys(), nothing.all()) == (1, "a", ["id", "name"], [])


async def test_the_number_of_changed_rows_and_the_new_id_are_known(database: Database) -> None:
    async with database.transaction() as connection:
        changed = await connection.execute(update(things).where(things.c.id < 3).values(name="b"))
        added = await connection.execute(insert(things).values(name="c"))
        returned = await connection.execute(update(things).values(name="d").returning(things.c.id))
        assert (changed.rowcount, added.inserted_primary_key) == (2, (4,))
        assert sorted(returned.scalars()) == [1, 2, 3, 4]


async def test_a_statement_that_fails_leaves_the_connection_usable(database: Database) -> None:
    async with database.transaction() as connection:
        with pytest.raises(IntegrityError, match="UNIQUE"):
            await connection.execute(insert(things).values(id=1))
        assert len((await connection.execute(select(things))).all()) == 3
