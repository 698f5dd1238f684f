"""Keeps datafiles up to date while the service runs: with each change, and when a schedule says so.

The last thing before a commit is to count the records of changes, to build the datafiles, and to mark the snippets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.change_counts import count_recorded
from optimizely_api.services.experiments.datafiles import build as datafile
from optimizely_api.services.experiments.snippets import build as snippet
from optimizely_api.services.experiments.tables import datafiles
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.storage.database import Database

LOOK_SECONDS = 0.25  # between two looks for schedules whose time has come

log = logging.getLogger("optimizely_api.services.experiments")


async def with_datafiles(app: web.Application) -> AsyncIterator[None]:
    """Build datafiles with changes and schedules for the life of the application."""
    app[DATABASE].before_commit = _before_commit
    task = asyncio.create_task(_follow_schedules(app[DATABASE]))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _before_commit(connection: AsyncConnection, project_ids: set[int]) -> None:
    await count_recorded(connection)
    for project_id in sorted(project_ids):
        await datafile.build(connection, project_id)
    await snippet.mark_changed(connection, project_ids)


async def _follow_schedules(database: Database) -> None:
    while True:
        try:
            await build_due(database, datetime.now(UTC))
        except Exception:
            log.exception("datafiles do not follow the schedules of experiments")
            await asyncio.sleep(1)
        await asyncio.sleep(LOOK_SECONDS)


async def build_due(database: Database, now: datetime) -> None:
    """Build the datafiles of projects with a schedule whose time has come by `now`.

    Raises an ExceptionGroup when some of them could not be built, after all others.
    """
    query = select(datafiles.c.project_id).where(datafiles.c.next_change <= now).distinct()
    async with database.snapshot() as connection:
        due = list((await connection.execute(query)).scalars())
    failures = []
    for project_id in due:
        try:
            async with database.transaction() as connection:
                await datafile.build(connection, project_id, now)
        except Exception as exc:
            failures.append(exc)
    if failures:
        raise ExceptionGroup("some datafiles do not follow the schedules of experiments", failures)
