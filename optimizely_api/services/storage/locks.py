"""Locks of what has no row to lock, or too many."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_IDS = 2**31  # two ids with the same remainder wait for each other, and nothing else


async def lock(connection: AsyncConnection, purpose: bytes, entity_id: int) -> None:
    """Wait for other transactions that hold the lock of this purpose and entity, and hold it until this one ends.

    `purpose` is four ASCII characters. SQLite has one writer at a time and needs no lock; on PostgreSQL it is an
    advisory one with two numbers.
    """
    if connection.dialect.name == "postgresql":
        numbers = {"purpose": int.from_bytes(purpose), "number": entity_id % _IDS}
        await connection.execute(text("SELECT pg_advisory_xact_lock(:purpose, :number)"), numbers)
