"""Leases: which worker of all works, until when. A worker that is killed holds its lease until then."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, MetaData, String, Table, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.storage.database import Database, UtcTime

# How long a worker that is killed keeps others from working, and how often one that works prolongs its lease. A term is
# longer than a renewal and the longest call of a receiver together.
TERM = timedelta(seconds=15)
RENEWAL = timedelta(seconds=3)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


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


class LeaseHolder:
    """One worker's side of a lease: takes it, prolongs it while the worker works, and gives it back."""

    def __init__(self, database: Database, lease: Lease, now: Callable[[], datetime]) -> None:
        """`now` is the worker's clock."""
        self.name = uuid.uuid4().hex
        self._database, self._lease, self._now = database, lease, now
        self._until = LONG_AGO

    @property
    def seconds_left(self) -> float:
        """How long no other worker can take the lease; not above zero without it."""
        return (self._until - self._now()).total_seconds()

    @property
    def is_fresh(self) -> bool:
        """Whether the lease was taken or prolonged less than a RENEWAL ago."""
        return self.seconds_left > (TERM - RENEWAL).total_seconds()

    async def holds(self) -> bool:
        """Take or prolong the lease, unless that was done just now; False while another worker has it."""
        if self.is_fresh:
            return True
        now = self._now()
        async with self._database.snapshot() as connection:
            if not await self._lease.may_take(connection, self.name, now):
                return False
        async with self._database.transaction() as connection:
            has_it = await self._lease.take(connection, self.name, now, now + TERM)
        self._until = now + TERM if has_it else LONG_AGO
        return has_it

    def has_lost_it(self) -> None:
        """Note that another worker has the lease, as a transaction found."""
        self._until = LONG_AGO

    async def let_go(self) -> None:
        """Give the lease back, if the worker has it; without the database, it runs out by itself."""
        if self.seconds_left <= 0:
            return
        with contextlib.suppress(Exception):
            async with self._database.transaction() as connection:
                await self._lease.release(connection, self.name, self._now())
