"""Leases: which worker of all works, until when. A worker that is killed holds its lease until then."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, MetaData, String, Table, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.storage.database import UtcTime


def lease_table(name: str, metadata: MetaData) -> Table:
    """The table of one lease, which has one row."""
    return Table(
        name,
        metadata,
        Column("name", String(32), primary_key=True),
        Column("holder", String(64), nullable=False),
        Column("expires", UtcTime, nullable=False),
    )


class Lease:
    """A lease in SQL. Every method runs in the transaction of its connection."""

    def __init__(self, table: Table) -> None:
        """`table` is a `lease_table`."""
        self.table = table

    async def may_take(self, connection: AsyncConnection, holder: str, now: datetime) -> bool:
        """Whether `take` would succeed: a look, without a lock."""
        row = (await connection.execute(select(self.table))).one()
        return bool(row.holder == holder or row.expires <= now)

    async def take(self, connection: AsyncConnection, holder: str, now: datetime, until: datetime) -> bool:
        """Take the lease, or prolong it; False while another worker has it."""
        free = or_(self.table.c.holder == holder, self.table.c.expires <= now)
        result = await connection.execute(update(self.table).where(free).values(holder=holder, expires=until))
        return result.rowcount == 1

    async def release(self, connection: AsyncConnection, holder: str, now: datetime) -> None:
        """Let another worker begin at once."""
        await connection.execute(update(self.table).where(self.table.c.holder == holder).values(expires=now))
