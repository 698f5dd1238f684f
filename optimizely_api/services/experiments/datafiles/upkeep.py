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
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.change_counts import count_recorded
from optimizely_api.services.experiments.datafiles import build as datafile
from optimizely_api.services.experiments.snippets import build as snippet
from optimizely_api.services.experiments.tables import datafiles
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.storage.data_version import Version
from optimizely_api.services.storage.database import Database, is_unavailable

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
    seen: Version = None
    earliest: datetime | None = None
    while True:
        try:
            if database.may_have_changed(seen):
                version = database.version()
                earliest = await _next_change(database)
                seen = version
            now = datetime.now(UTC)
            if earliest is not None and earliest <= now:
                await build_due(database, now)
        except Exception as exc:
            _log_failure("datafiles do not follow the schedules of experiments", exc)
            await asyncio.sleep(1)
        await asyncio.sleep(LOOK_SECONDS)


async def _next_change(database: Database) -> datetime | None:
    """When the next schedule changes a datafile; None without any."""
    async with database.snapshot() as connection:
        found: datetime | None = (
            await connection.execute(select(func.min(datafiles.c.next_change)))
        ).scalar()
    return found


def _log_failure(what: str, exc: Exception) -> None:
    failures = exc.exceptions if isinstance(exc, ExceptionGroup) else (exc,)
    if all(is_unavailable(each) for each in failures):
        log.warning("%s: %s", what, failures[0])
    else:
        log.error("%s", what, exc_info=exc)


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
