"""Audiences: groups of visitors, by conditions, that experiments are shown to.

Conditions name attributes by their keys or names. Beside them an audience keeps `attribute_ids`, {name as in the
conditions: id}, so that they follow when the attribute is renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.entities.names import name_problems
from optimizely_api.services.experiments import conditions
from optimizely_api.services.experiments.attributes import ATTRIBUTES
from optimizely_api.services.experiments.conditions import InvalidConditions
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.experiments.running import running_user
from optimizely_api.services.experiments.search.index import index, use_of
from optimizely_api.services.experiments.tables import METADATA, next_ids, uses
from optimizely_api.services.experiments.usage import counts_of_users
from optimizely_api.services.http.errors import conflict
from optimizely_api.services.schema import TEXT, field_error

NOBODY = "[]"
SHOWN_CHARACTERS = 200  # of a name in a message

AUDIENCES = Entity(
    "Audience",
    METADATA,
    next_ids,
    initial={"conditions": NOBODY, "description": "", "platform": conditions.WEB},
    internal={"platform": TEXT},  # of the project, which keeps it for ever
)


@AUDIENCES.prepare
def name_follows_from_the_id(audience: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    return {**audience, "name": audience.get("name") or f"Audience {audience['id']}"}


@AUDIENCES.prepare
def only_the_service_says_what_is_classic_and_counts(
    audience: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    kept = {name: value for name, value in audience.items() if name != "experiment_count"}
    return {**kept, "is_classic": False}


@AUDIENCES.complete
async def conditions_are_checked_and_know_their_attributes(
    connection: AsyncConnection, audience: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    if before is not None and audience["conditions"] == before["conditions"]:
        return audience
    try:
        tree = conditions.read(audience["conditions"])
        text = conditions.write(tree)
    except InvalidConditions as exc:
        raise field_error("/conditions", str(exc)) from None
    problems = (conditions.problem_of(leaf, audience["platform"]) for leaf in conditions.leaves(tree))
    if problem := next(filter(None, problems), None):
        raise field_error("/conditions", problem)
    if before is not None and text == before["conditions"]:
        return {**audience, "conditions": text}
    known = {} if before is None else before.get("attribute_ids", {})
    # Attributes are locked until a new audience is there: one that is being renamed would miss it. An audience that
    # is there already is locked itself, and waited for.
    lock = before is None
    ids = await _attribute_ids(connection, audience["project_id"], tree, known, lock)
    return {**audience, "conditions": text, "attribute_ids": ids}


async def _attribute_ids(
    connection: AsyncConnection, project_id: int, tree: list[Any], known: dict[str, int], lock: bool
) -> dict[str, int]:
    """{name in the conditions: its attribute's id}; 400 for a new name that is no attribute's, or an archived one's."""
    leaves = conditions.leaves(tree)
    names = {leaf["name"]: None for leaf in leaves if leaf["type"] == "custom_attribute"}
    ids = {name: known[name] for name in names if name in known}
    if new := [name for name in names if name not in known]:
        found = await _attributes_named(connection, project_id, new, lock)
        for name in new:
            if name not in found:
                raise field_error("/conditions", f"Custom attribute '{_shown(name)}' does not exist")
            if found[name].archived:
                raise field_error("/conditions", f"Custom attribute '{name}' is archived")
            ids[name] = found[name].id
    return ids


async def _attributes_named(
    connection: AsyncConnection, project_id: int, names: Iterable[str], lock: bool
) -> dict[str, Any]:
    """{key or name: attribute}; a key goes before a name, and among names the one in use before those archived."""
    columns = ATTRIBUTES.table.c
    wanted = [name for name in names if _can_be_stored(name)]
    query = (
        select(columns.id, columns.key, columns.name, columns.archived)
        .where(columns.project_id == project_id, columns.key.in_(wanted) | columns.name.in_(wanted))
        .order_by(columns.id)
    )
    rows = list(await connection.execute(query.with_for_update(read=True) if lock else query))
    rows.sort(key=lambda row: (not row.archived, -row.id))
    return {**{row.name: row for row in rows}, **{row.key: row for row in rows}}


def _shown(name: str) -> str:
    """The name as far as a message has room, without half a surrogate pair, which JSON in UTF-8 cannot hold."""
    return name[:SHOWN_CHARACTERS].encode(errors="backslashreplace").decode()


def _can_be_stored(name: str) -> bool:
    """Neither U+0000 nor half a surrogate pair, which no attribute has and PostgreSQL would refuse to look for."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


@AUDIENCES.reference
async def name_is_unique_outside_the_archive(
    connection: AsyncConnection, audience: dict[str, Any], before: dict[str, Any] | None
) -> Iterable[tuple[str, str]]:
    if audience["archived"]:
        return []
    return await name_problems(connection, AUDIENCES.table, audience, among_archived=False)


@AUDIENCES.complete
async def an_audience_in_use_is_not_archived(
    connection: AsyncConnection, audience: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    if before is not None and audience["archived"] and not before["archived"]:
        refused = f"audience {audience['id']} cannot be archived"
        if experiment_id := await running_user(connection, "audience", audience["id"]):
            raise conflict(f"{refused}: experiment {experiment_id}, which runs, uses it")
        if feature_id := await _feature_that_is_on(connection, audience["id"]):
            raise conflict(f"{refused}: an enabled rollout rule of feature {feature_id} uses it")
    return audience


@AUDIENCES.derive
async def count_experiments(connection: AsyncConnection, found: Sequence[dict[str, Any]]) -> None:
    """How many experiments and features that are not archived name each audience."""
    counts = await counts_of_users(connection, "audience", [audience["id"] for audience in found])
    for audience in found:
        audience["experiment_count"] = counts[audience["id"]]


async def _feature_that_is_on(connection: AsyncConnection, audience_id: int) -> int | None:
    """The first feature by id outside the archive with an enabled rollout rule for the audience."""
    columns = FEATURES.table.c
    query = select(columns.id).join(uses, uses.c.entity_id == columns.id).order_by(columns.id).limit(1)
    query = query.where(uses.c.used == use_of("audience", audience_id), uses.c.active, ~uses.c.archived)
    found: int | None = (await connection.execute(query)).scalar_one_or_none()
    return found


@ATTRIBUTES.complete
async def audiences_follow_a_new_key_or_name(
    connection: AsyncConnection, attribute: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    if before is not None and (new := _new_names(before, attribute)):
        await _rename_in_audiences(connection, attribute, new)
    return attribute


def _new_names(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """{name that conditions may have: the one that takes its place}."""
    by_key = {before["key"]: after["key"]}
    by_name = {before["name"]: after["name"]}
    return {old: new for old, new in {**by_name, **by_key}.items() if old != new}


async def _rename_in_audiences(
    connection: AsyncConnection, attribute: dict[str, Any], new: dict[str, str]
) -> None:
    columns = AUDIENCES.table.c
    query = select(columns.id, columns.document).where(columns.project_id == attribute["project_id"])
    for row in (await connection.execute(query.with_for_update())).all():
        document = _renamed(row.document, attribute["id"], new)
        if document != row.document:
            change = update(AUDIENCES.table).where(columns.id == row.id)
            await connection.execute(change.values(document=document))
            await index(connection, "audience", [row.id])


def _renamed(document: dict[str, Any], attribute_id: int, new: dict[str, str]) -> dict[str, Any]:
    """An audience's document that names the attribute by its new key or name."""
    ids: dict[str, int] = document.get("attribute_ids", {})
    changed = {name: new[name] for name in new if ids.get(name) == attribute_id}
    if not changed:
        return document

    def follow(leaf: dict[str, Any]) -> dict[str, Any]:
        is_changed = leaf["type"] == "custom_attribute" and leaf["name"] in changed
        return {**leaf, "name": changed[leaf["name"]]} if is_changed else leaf

    text = conditions.write(conditions.replaced(conditions.read(document["conditions"]), follow))
    ids = {changed.get(name, name): number for name, number in ids.items()}
    return {**document, "conditions": text, "attribute_ids": ids}
