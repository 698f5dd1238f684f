"""Tables of entities: what lists filter and order by are columns, the rest of an entity is one JSON document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, MetaData, Table, Text, UniqueConstraint

from optimizely_api.services.storage.database import UtcTime

COLUMNS = ("account_id", "project_id", "key", "name", "archived")


def entity_table(name: str, metadata: MetaData, further: Iterable[str] = ()) -> Table:
    """The table of an entity; `further` are columns of ids, such as that of an entity it belongs to."""
    further = tuple(further)
    return Table(
        name,
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("account_id", BigInteger, nullable=False),
        Column("project_id", BigInteger, nullable=False),
        Column("key", Text),
        Column("name", Text),
        Column("archived", Boolean, nullable=False),
        *(Column(column, BigInteger) for column in further),
        Column("document", JSON, nullable=False),
        Column("created", UtcTime, nullable=False),
        Column("last_modified", UtcTime, nullable=False),
        # Keys are unique whether their holders are archived or not; rows without a key do not conflict.
        UniqueConstraint("project_id", "key", name=f"uq_{name}_project_id_key"),
        *(Index(f"ix_{name}_{column}_id", column, "id") for column in ("account_id", "project_id", *further)),
    )


def create_entity_table(op: Operations | Any, name: str, further: Iterable[str] = ()) -> None:
    """Create the table inside a migration. A later change of `entity_table` needs a new function beside this one."""
    entity_table(name, metadata := MetaData(), further)
    metadata.create_all(op.get_bind())
