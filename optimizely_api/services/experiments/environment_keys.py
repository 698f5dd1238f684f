"""The keys of environments in experiments and features, which follow when an environment is renamed.

Their maps of environments have the keys of the time at which they were written, and the id of each environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import environments
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.experiments.search.index import EXPERIMENT, FEATURE, index
from optimizely_api.services.experiments.tables import experiments, layers

Json = dict[str, Any]

READ_AT_ONCE = 500


async def follow(connection: AsyncConnection, project_id: int, keys: Mapping[int, str]) -> None:
    """Write the keys of environments, {id: its key now}, into what names them under another key, and index that.

    Call it before the project's datafiles are locked: who changes an experiment locks those last.
    """
    await _follow(connection, EXPERIMENT, experiments, project_id, keys)
    # Features after experiments, as in a change of an experiment, which keeps its feature out of the archive.
    await _follow(connection, FEATURE, FEATURES.table, project_id, keys)


async def _follow(
    connection: AsyncConnection, kind: str, table: Table, project_id: int, keys: Mapping[int, str]
) -> None:
    last = 0
    while rows := await _some(connection, table, project_id, last):
        last = rows[-1].id
        if changed := [row.id for row in rows if _renamed(row.document, keys) != row.document]:
            await _lock_layers(connection, table, changed)
            query = select(table.c.id, table.c.document).where(table.c.id.in_(changed))
            for row in (await connection.execute(query.order_by(table.c.id).with_for_update())).all():
                values = {"document": _renamed(row.document, keys)}
                await connection.execute(update(table).where(table.c.id == row.id).values(**values))
            await index(connection, kind, changed)


async def _some(connection: AsyncConnection, table: Table, project_id: int, last: int) -> Sequence[Any]:
    query = select(table.c.id, table.c.document).where(table.c.project_id == project_id, table.c.id > last)
    return (await connection.execute(query.order_by(table.c.id).limit(READ_AT_ONCE))).all()


async def _lock_layers(connection: AsyncConnection, table: Table, ids: Sequence[int]) -> None:
    """Lock the layers of experiments, which every change of an experiment does first."""
    if table is experiments:
        of_these = select(experiments.c.layer_id).where(experiments.c.id.in_(ids))
        query = select(layers.c.id).where(layers.c.id.in_(of_these)).order_by(layers.c.id)
        await connection.execute(query.with_for_update())


def _renamed(document: Json, keys: Mapping[int, str]) -> Json:
    entries: Mapping[str, Json] = document.get(environments.NAME) or {}
    present = {keys.get(value.get("id", 0), key): value for key, value in entries.items()}
    if present == entries or len(present) < len(entries):
        return document  # two under one key are of two moments: the other's new key is still to come
    return {**document, environments.NAME: present}
