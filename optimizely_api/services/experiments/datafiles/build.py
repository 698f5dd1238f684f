"""Builds the datafiles of a project's environments, in the transaction of the change that they show.

Only one transaction at a time builds those of a project, as the last thing before its commit: it sees the changes of
all that were committed before it. SQLite has one writer at a time; on PostgreSQL it is an advisory lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Table, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import shapes, states
from optimizely_api.services.experiments.attributes import ATTRIBUTES
from optimizely_api.services.experiments.audiences import AUDIENCES
from optimizely_api.services.experiments.datafiles import buckets
from optimizely_api.services.experiments.datafiles.buckets import Buckets
from optimizely_api.services.experiments.datafiles.content import (
    Project,
    active_weights,
    content,
    digest,
    group_weights,
    is_for_sdks,
    is_listed,
    render,
)
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.experiments.groups import GROUPS
from optimizely_api.services.experiments.tables import (
    bucket_maps,
    datafile_revisions,
    datafiles,
    events,
    experiments,
)
from optimizely_api.services.storage import locks

Json = dict[str, Any]
Ranges = list[tuple[int, int]]

WEB = "web"  # projects whose experiments no SDK runs
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_BUILT = [column for column in datafiles.c if column.name != "content"]


async def lock(connection: AsyncConnection, project_id: int) -> None:
    """Wait for other transactions that build datafiles of the project, until this one ends."""
    await locks.lock(connection, b"data", project_id)


async def build(connection: AsyncConnection, project_id: int, now: datetime | None = None) -> None:
    """Build the datafiles of a project; one whose content is the same keeps its revision."""
    await lock(connection, project_id)
    of_project = datafiles.c.project_id == project_id
    # One that was archived from the start gets its first revision too: its environment shows it.
    is_due = or_(datafiles.c.archived.is_(False), datafiles.c.revision == 0)
    query = select(*_BUILT).where(of_project, is_due)
    environments = (await connection.execute(query.order_by(datafiles.c.environment_id))).all()
    if not environments:
        return
    now = now or datetime.now(UTC)
    is_for_the_web = all(row.platform == WEB for row in environments)
    project = Project() if is_for_the_web else await _read(connection, environments, now)
    for environment in environments:
        await _store(connection, environment, content(environment, project, now), now)
    changes_at = next_change(project.experiments, now)
    if any(row.next_change != changes_at for row in environments):
        await connection.execute(update(datafiles).where(of_project).values(next_change=changes_at))


async def _store(connection: AsyncConnection, environment: Row[Any], built: Json, now: datetime) -> None:
    new_digest = digest(built)
    if new_digest == environment.digest:
        return
    revision = environment.revision + 1
    body = render(built, revision)
    values = {
        "revision": revision,
        "content": body,
        "size": len(body),
        "digest": new_digest,
        # SDKs ask by this time, which HTTP writes in whole seconds.
        "built": max(now.replace(microsecond=0), environment.built + timedelta(seconds=1)),
    }
    this_one = datafiles.c.environment_id == environment.environment_id
    await connection.execute(update(datafiles).where(this_one).values(**values))
    names = ("account_id", "project_id", "environment_id", "environment_key", "sdk_key")
    await connection.execute(
        insert(datafile_revisions).values(
            **{name: getattr(environment, name) for name in names},
            revision=revision,
            size=len(body),
            created=now,
        )
    )


async def _read(connection: AsyncConnection, environments: Sequence[Row[Any]], now: datetime) -> Project:
    project_id = environments[0].project_id
    present = await rows_of(connection, experiments, project_id, experiments.c.status != "archived")
    candidates = [row for row in present if is_for_sdks(row)]
    groups = await rows_of(connection, GROUPS.table, project_id, GROUPS.table.c.archived.is_(False))
    listed = [row for row in candidates if any(is_listed(row, one, now) for one in environments)]
    return Project(
        experiments=candidates,
        groups=groups,
        features=await rows_of(connection, FEATURES.table, project_id),
        audiences=await rows_of(connection, AUDIENCES.table, project_id),
        attributes=await rows_of(connection, ATTRIBUTES.table, project_id),
        events=await rows_of(connection, events, project_id),
        ranges=await _ranges(connection, project_id, listed, groups, now),
    )


async def rows_of(connection: AsyncConnection, table: Table, project_id: int, *where: Any) -> list[Row[Any]]:
    """The rows of a project for which the conditions hold, by id."""
    query = select(table).where(table.c.project_id == project_id, *where).order_by(table.c.id)
    return list(await connection.execute(query))


async def _ranges(
    connection: AsyncConnection,
    project_id: int,
    listed: Sequence[Row[Any]],
    groups: Iterable[Row[Any]],
    now: datetime,
) -> dict[int, Ranges]:
    """Who has which buckets of each listed experiment and its group; what is new in that is stored."""
    query = select(bucket_maps).where(bucket_maps.c.project_id == project_id)
    stored = {row.entity_id: row for row in await connection.execute(query)}
    started = {row.id for row in listed if shapes.has_started(row, now)}
    result = {}
    for row in listed:
        total, weights = row.document.get("traffic_allocation", buckets.ALL), active_weights(row)
        keeps = row.id in started
        result[row.id] = await _divide(connection, row, total, weights, stored.get(row.id), keeps)
    for row in groups:
        weights = group_weights(row)
        if result.keys().isdisjoint(weights):
            continue
        total, keeps = sum(weights.values()), not started.isdisjoint(weights)
        result[row.id] = await _divide(connection, row, total, weights, stored.get(row.id), keeps)
    return result


async def _divide(
    connection: AsyncConnection,
    row: Row[Any],
    total: int,
    weights: Mapping[int, int],
    stored: Row[Any] | None,
    keeps: bool,
) -> Ranges:
    """Who has which buckets after a division; where `keeps` is false, no user has met the former one."""
    divided = [total, *map(list, weights.items())]
    if stored is not None and stored.divided == divided:
        return buckets.ranges(stored.buckets)
    before = buckets.load(stored.buckets) if stored is not None and keeps else Buckets()
    after = buckets.dump(buckets.moved(before, buckets.shares(weights, total)))
    values = {"divided": divided, "buckets": after}
    if stored is None:
        new = {"entity_id": row.id, "project_id": row.project_id, **values}
        await connection.execute(insert(bucket_maps).values(**new))
    else:
        this_one = bucket_maps.c.entity_id == row.id
        await connection.execute(update(bucket_maps).where(this_one).values(**values))
    return buckets.ranges(after)


def next_change(candidates: Iterable[Row[Any]], now: datetime) -> datetime | None:
    """When the schedule of an experiment says something next."""
    schedules = (states.read_schedule(row.document.get("schedule")) for row in candidates)
    times = (time for schedule in schedules for time in (schedule.start, schedule.stop))
    return min((time for time in times if time is not None and time > now), default=None)
