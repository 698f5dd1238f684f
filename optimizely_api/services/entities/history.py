"""The history of changes: a row for each successful write, made in its transaction and never altered.

A service whose metadata has the table `changes` keeps a history of all its entities. The experiments service also has
copies of another service's records (`experiments/received_changes.py`).
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    func,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import noun_of, public, writable
from optimizely_api.contract.times import format_time, read_time
from optimizely_api.services.http.log import USER
from optimizely_api.services.storage.database import CHANGED_PROJECTS, RECORDED, UtcTime

Json = dict[str, Any]

TABLE = "changes"
SOURCE = "api"
OWNERS = frozenset({"account_id", "project_id"})  # they never change
WITHOUT_VALUES = frozenset({"list_content"})  # perhaps personal: the record names the property only
DIGESTS = {"list_content": "content_sha256"}  # stored in place of a property, and different when it changes
FILTERED = ("entity_type", "user_name")  # beside the project and the time
ORIGIN_ID, ORIGIN_INDEX = "origin_id", "ix_changes_origin_id"  # of records that another service made
TYPED = frozenset({"Experiment", "Campaign"})  # whose `type` is the `sub_type` of records
STARTS = {"not_started": "Started", "paused": "Resumed", "campaign_paused": "Resumed"}
ENDS = {"paused": "Paused", "campaign_paused": "Paused", "concluded": "Concluded"}


def change_table(metadata: MetaData, *, is_filtered: bool = False, receives: bool = False) -> Table:
    """The table of records. Their ids are the database's: `next_ids` would make every write wait for the others.

    `is_filtered` is one whose lists filter by type and user: see `create_change_indexes`. `receives` is one that also
    has copies of another service's records, with the ids that they have there: see `create_origin_ids`.
    """
    return Table(
        TABLE,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("account_id", BigInteger, nullable=False),
        Column("project_id", BigInteger, nullable=False),
        Column("entity_type", String(32), nullable=False),
        Column("entity_id", BigInteger, nullable=False),
        Column("entity_name", Text),
        Column("sub_type", String(32)),
        Column("change_type", String(16), nullable=False),
        Column("revision", Integer, nullable=False),  # counts the changes of the entity from 1
        Column("changes", JSON, nullable=False),
        Column("summary", Text, nullable=False),
        Column("source", String(8), nullable=False),
        Column("user_id", Text, nullable=False),
        Column("user_name", Text, nullable=False),
        Column("created", UtcTime, nullable=False),
        Index("ix_changes_project_id_created_id", "project_id", "created", "id"),
        Index("ix_changes_entity_id_revision", "entity_id", "revision"),
        *(_indexes_of_filters() if is_filtered else []),
        *((Column(ORIGIN_ID, BigInteger), Index(ORIGIN_INDEX, ORIGIN_ID, unique=True)) if receives else ()),
    )


def _indexes_of_filters() -> list[Index]:
    return [
        Index(f"ix_changes_project_id_{column}", "project_id", column, "created", "id") for column in FILTERED
    ]


def create_change_indexes(op: Operations | Any) -> None:
    """Create the indexes of filters inside a migration, after `create_change_table`."""
    for column in FILTERED:
        op.create_index(f"ix_changes_project_id_{column}", TABLE, ["project_id", column, "created", "id"])


def create_origin_ids(op: Operations | Any) -> None:
    """Add the column of received records inside a migration, after `create_change_table`."""
    op.add_column(TABLE, Column(ORIGIN_ID, BigInteger))
    op.create_index(ORIGIN_INDEX, TABLE, [ORIGIN_ID], unique=True)


def create_change_table(op: Operations | Any) -> None:
    """Create the table inside a migration. A later change of `change_table` needs a new function beside this one."""
    change_table(metadata := MetaData())
    metadata.create_all(op.get_bind())


async def record(
    connection: AsyncConnection,
    changes: Table,
    definition: str,
    before: Json | None,
    after: Json,
    at: datetime,
    change_type: str = "",
) -> None:
    """Add the record of a change of an entity of the contract's `definition`; a change of nothing has none.

    `before` is None for a new entity. The type follows from both, unless `change_type` is given.
    """
    details = _details(definition, before, after)
    if not details and not change_type:
        return
    connection.info.setdefault(CHANGED_PROJECTS, set()).add(after["project_id"])
    earlier = select(func.max(changes.c.revision)).where(changes.c.entity_id == after["id"])
    revision = (await connection.execute(earlier)).scalar_one() or 0
    change_type = change_type or _change_type(before, after)
    user, noun = USER.get(), noun_of(definition)
    values = {
        "account_id": after["account_id"],
        "project_id": after["project_id"],
        "entity_type": noun,
        "entity_id": after["id"],
        "entity_name": after.get("name") or after.get("key"),
        "sub_type": after.get("type") if definition in TYPED else None,
        "change_type": change_type,
        "revision": revision + 1,
        "changes": details,
        "summary": _summary(change_type, noun, before, after),
        "source": SOURCE,
        "user_id": user.id,
        "user_name": user.name,
        "created": at,
    }
    await connection.execute(insert(changes).values(**values))
    connection.info.setdefault(RECORDED, []).append(values)


def shown(row: Row[Any]) -> Json:
    """A record as services show it."""
    entity = {"type": row.entity_type, "id": row.entity_id, "name": row.entity_name, "sub_type": row.sub_type}
    return {
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "change_type": row.change_type,
        "changes": row.changes,
        "created": format_time(row.created),
        "entity": {name: value for name, value in entity.items() if value is not None},
        "revisions": {
            "current": {"id": row.revision},
            "previous": {"id": row.revision - 1 if row.revision > 1 else None},
        },
        "source": row.source,
        "summary": row.summary,
        "user": {"id": row.user_id, "email": row.user_name},
    }


def columns_of(item: Json) -> Json:
    """The values of a record's columns, of the shape that `shown` gave it; but for its id."""
    entity, user = item["entity"], item["user"]
    return {
        **{name: item[name] for name in ("account_id", "project_id", "change_type", "changes")},
        **{name: item[name] for name in ("source", "summary")},
        "created": read_time(item["created"]),
        "entity_type": entity["type"],
        "entity_id": entity["id"],
        "entity_name": entity.get("name"),
        "sub_type": entity.get("sub_type"),
        "revision": item["revisions"]["current"]["id"],
        "user_id": user["id"],
        "user_name": user["email"],
    }


def is_archived(entity: Json) -> bool:
    """Whether an entity is in the archive: some say so by `archived`, those that run by `status`."""
    return bool(entity.get("archived")) or entity.get("status") == "archived"


@lru_cache(maxsize=64)
def _recorded(definition: str) -> tuple[str, ...]:
    """The properties whose changes are recorded; the status comes first, for readers look there."""
    names = writable(definition)["properties"].keys() - OWNERS - {"status", "archived"}
    return ("status", "archived", *sorted(names))


def _details(definition: str, before: Json | None, after: Json) -> list[Json]:
    old, new = ({} if entity is None else _shown(definition, entity) for entity in (before, after))
    return [_detail(name, old, new) for name in _recorded(definition) if old.get(name) != new.get(name)]


def _shown(definition: str, entity: Json) -> Json:
    # Not every definition has these two, and every reader wants them.
    kept = {name: entity[name] for name in ("status", "archived") if entity.get(name) is not None}
    digests = {name: entity[digest] for name, digest in DIGESTS.items() if digest in entity}
    return {**public(definition, entity), **kept, **digests}


def _detail(name: str, old: Json, new: Json) -> Json:
    before, after = old.get(name), new.get(name)
    verb = "Set" if before is None else "Removed" if after is None else "Changed"
    detail = {"property": name, "description": f"{verb} {name}"}
    if name in WITHOUT_VALUES:
        return detail
    if name == "variations" and before and after:
        before, after = _differing(before, after), _differing(after, before)
    sides = {"before": before, "after": after}
    return detail | {side: value for side, value in sides.items() if value is not None}


def _differing(variations: list[Json], others: list[Json]) -> list[Json]:
    """Those that are not among the others as they are."""
    return [variation for variation in variations if variation not in others]


def _change_type(before: Json | None, after: Json) -> str:
    if before is None:
        return "create"
    return "archive" if is_archived(after) and not is_archived(before) else "update"


def _summary(change_type: str, noun: str, before: Json | None, after: Json) -> str:
    """One line, such as `Started experiment checkout_flow`."""
    named = after.get("key") or after.get("name") or after["id"]
    return f"{_verb(change_type, before or {}, after)} {noun.replace('_', ' ')} {named}"


def _verb(change_type: str, before: Json, after: Json) -> str:
    if change_type != "update":
        return {"create": "Created", "archive": "Archived", "publish": "Published"}.get(
            change_type, "Deleted"
        )
    if is_archived(before) and not is_archived(after):
        return "Unarchived"
    if before.get("status") == after.get("status"):
        return "Changed"
    if after["status"] == "running":
        return STARTS.get(before.get("status", ""), "Changed")
    return ENDS.get(after["status"], "Changed")
