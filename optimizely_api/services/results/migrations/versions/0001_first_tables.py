"""The first tables: raw events, first decisions, attributes, rollups."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CELL_SUMS = (
    "converting",
    "events",
    "events_events",
    "revenue",
    "revenue_revenue",
    "revenue_events",
    "revenue_squares",
    "value",
    "value_value",
    "value_events",
    "value_squares",
)


def _key(name: str, *constraints: sa.ForeignKey) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, *constraints, primary_key=True, autoincrement=False)


def _required(name: str, kind: type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    """Create the tables."""
    _create_raw_data()
    _create_attributes()
    _create_rollups()


def _create_raw_data() -> None:
    op.create_table(
        "visitor",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        _required("account_id", sa.Text),
        _required("key", sa.Text),
        sa.UniqueConstraint("account_id", "key"),
    )
    op.create_table(
        "event",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("visitor_id", sa.BigInteger, sa.ForeignKey("visitor.id"), nullable=False),
        _required("happened", sa.BigInteger),
        _required("is_impression", sa.Boolean),
        sa.Column("entity_id", sa.BigInteger),
        sa.Column("project_id", sa.BigInteger),
        sa.Column("key", sa.Text),
        sa.Column("revenue", sa.BigInteger),
        sa.Column("value", sa.Double),
        sa.Column("tags", sa.Text),
    )
    op.create_index("event_of_visitor", "event", ["visitor_id", "entity_id", "happened"])
    op.create_table(
        "visitor_event_id",
        _key("visitor_id", sa.ForeignKey("visitor.id")),
        _key("entity_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "assignment",
        _key("visitor_id", sa.ForeignKey("visitor.id")),
        _key("experiment_id"),
        _required("variation_id", sa.BigInteger),
        _required("entered", sa.BigInteger),
        sa.Column("project_id", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "assignment_of_experiment", "assignment", ["experiment_id", "entered", "variation_id", "visitor_id"]
    )


def _create_attributes() -> None:
    op.create_table(
        "attribute",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
        *(_required(name, sa.Text) for name in ("entity_id", "key", "kind", "value", "folded")),
    )
    op.create_index("ix_attribute_entity_id", "attribute", ["entity_id"])
    op.create_index("ix_attribute_key", "attribute", ["key"])
    op.create_table(
        "visitor_attribute",
        _key("attribute_id", sa.ForeignKey("attribute.id")),
        _key("visitor_id", sa.ForeignKey("visitor.id")),
        sqlite_with_rowid=False,
    )


def _create_rollups() -> None:
    op.create_table(
        "visitor_total",
        _key("visitor_id", sa.ForeignKey("visitor.id")),
        *(_key(name) for name in ("experiment_id", "entity_id", "project_id")),
        _required("events", sa.BigInteger),
        *(_required(name, sa.Double) for name in ("revenue", "value", "revenue_squares", "value_squares")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cell",
        *(_key(name) for name in ("experiment_id", "slot", "variation_id", "entity_id", "project_id")),
        *(_required(name, sa.Double) for name in _CELL_SUMS),
        *(_required(f"{name}_rest", sa.Double) for name in _CELL_SUMS[3:]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "entry_slot",
        *(_key(name) for name in ("experiment_id", "slot", "variation_id")),
        *(_required(name, sa.BigInteger) for name in ("visitors", "first_entered", "last_activity")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables, and with them every event."""
    for table in (
        "entry_slot",
        "cell",
        "visitor_total",
        "visitor_attribute",
        "attribute",
        "assignment",
        "visitor_event_id",
        "event",
        "visitor",
    ):
        op.drop_table(table)
