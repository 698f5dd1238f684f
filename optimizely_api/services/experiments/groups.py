"""Groups: experiments and personalization campaigns of which a visitor takes part in one at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.experiments.definitions import ALL_TRAFFIC
from optimizely_api.services.experiments.search.index import use_of
from optimizely_api.services.experiments.tables import METADATA, experiments, layers, next_ids, uses

Json = dict[str, Any]
Member = tuple[str, int]  # kind and id

# Whether a member is in another group is for all groups of the project to say.
GROUPS = Entity("Group", METADATA, next_ids, initial={"description": "", "entities": []}, locks_project=True)


@GROUPS.prepare
def an_archived_group_is_empty(group: Json, before: Json | None) -> Json:
    return {**group, "entities": []} if group["archived"] else group


@GROUPS.complete
async def a_lone_experiment_may_be_named_by_its_layer(
    connection: AsyncConnection, group: Json, before: Json | None
) -> Json:
    named = [entity["id"] for entity in group["entities"] if entity["kind"] == "Campaign"]
    query = select(experiments.c.layer_id, experiments.c.id).join(layers)
    rows = await connection.execute(query.where(layers.c.id.in_(named), layers.c.type == "other"))
    alone = {row.layer_id: row.id for row in rows}
    return {**group, "entities": [_as_experiment(entity, alone) for entity in group["entities"]]}


@GROUPS.rule
def shares_are_of_one_whole(group: Json, before: Json | None) -> Iterator[tuple[str, str]]:
    total = sum(entity["weight"] for entity in group["entities"])
    if total > ALL_TRAFFIC:
        yield "/entities", f"the weights add up to {total}, more than {ALL_TRAFFIC}"


@GROUPS.rule
def nothing_is_in_it_twice(group: Json, before: Json | None) -> Iterator[tuple[str, str]]:
    seen = set[Member]()
    for number, entity in enumerate(group["entities"]):
        if _member(entity) in seen:
            yield f"/entities/{number}/id", "stands there twice"
        seen.add(_member(entity))


@GROUPS.reference
async def new_members_are_there_and_in_no_other_group(
    connection: AsyncConnection, group: Json, before: Json | None
) -> list[tuple[str, str]]:
    present = {_member(entity) for entity in before["entities"]} if before else set()
    members = [_member(entity) for entity in group["entities"]]
    if present.issuperset(members):
        return []
    taken = await _members_of_other_groups(connection, group["id"], members)
    fitting = await _fitting(connection, group["project_id"], members)
    problems = []
    for number, (kind, entity_id) in enumerate(members):
        if (kind, entity_id) in present:
            continue
        if (kind, entity_id) not in fitting:
            what = "personalization campaign" if kind == "Campaign" else "experiment"
            problems.append((f"/entities/{number}/id", f"is no {what} of this project outside the archive"))
        elif (kind, entity_id) in taken:
            problems.append((f"/entities/{number}/id", f"is in group {taken[kind, entity_id]} already"))
    return problems


def _member(entity: Json) -> Member:
    return entity["kind"], entity["id"]


def _as_experiment(entity: Json, alone: dict[int, int]) -> Json:
    if entity["kind"] != "Campaign" or entity["id"] not in alone:
        return entity
    return {**entity, "kind": "Experiment", "id": alone[entity["id"]]}


async def _members_of_other_groups(
    connection: AsyncConnection, group_id: int, members: Sequence[Member]
) -> dict[Member, int]:
    """{member: its group}, of these members."""
    of_use = {use_of(kind.lower(), entity_id): (kind, entity_id) for kind, entity_id in members}
    query = select(uses.c.used, uses.c.entity_id).where(uses.c.used.in_(of_use), uses.c.entity_id != group_id)
    return {of_use[row.used]: row.entity_id for row in await connection.execute(query)}


async def _fitting(connection: AsyncConnection, project_id: int, members: Sequence[Member]) -> set[Member]:
    """Those of the members that exist in the project and are not archived."""
    ids = [entity_id for _, entity_id in members]
    of_experiments = select(experiments.c.id).where(
        experiments.c.id.in_(ids),
        experiments.c.project_id == project_id,
        experiments.c.status != "archived",
    )
    of_campaigns = select(layers.c.id).where(
        layers.c.id.in_(ids),
        layers.c.project_id == project_id,
        layers.c.type == "personalization",
        layers.c.archived.is_(None),
    )
    return {
        *(("Experiment", number) for number in (await connection.execute(of_experiments)).scalars()),
        *(("Campaign", number) for number in (await connection.execute(of_campaigns)).scalars()),
    }
