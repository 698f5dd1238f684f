"""Ids of the services: one rising sequence per database, so that no two entities share an id and none is reused."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table, update
from sqlalchemy.ext.asyncio import AsyncConnection


def id_table(metadata: MetaData) -> Table:
    """The table with the next free id; the first migration writes its only row."""
    return Table(
        "next_ids",
        metadata,
        Column("name", String(32), primary_key=True),
        Column("next_id", BigInteger, nullable=False),
    )


async def allocate_ids(connection: AsyncConnection, table: Table, count: int = 1) -> range:
    """Allocate `count` new ids inside the current transaction; other writers wait until it ends."""
    if count == 0:
        return range(0)
    statement = (
        update(table)
        .where(table.c.name == "ids")
        .values(next_id=table.c.next_id + count)
        .returning(table.c.next_id)
    )
    end: int = (await connection.execute(statement)).scalar_one()
    return range(end - count, end)
