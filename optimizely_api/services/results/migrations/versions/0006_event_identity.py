"""An event is the same by uuid, entity and time together, and no longer by its uuid alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _event(*uuid_constraints: sa.schema.SchemaItem) -> sa.Table:
    """The table as it is, whose constraint SQLite gave no name to."""
    return sa.Table(
        "event",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False),
        sa.Column("visitor_id", sa.BigInteger, sa.ForeignKey("visitor.id"), nullable=False),
        sa.Column("happened", sa.BigInteger, nullable=False),
        sa.Column("is_impression", sa.Boolean, nullable=False),
        sa.Column("entity_id", sa.BigInteger),
        sa.Column("project_id", sa.BigInteger),
        sa.Column("key", sa.Text),
        sa.Column("revenue", sa.BigInteger),
        sa.Column("value", sa.Double),
        sa.Column("tags", sa.Text),
        *uuid_constraints,
        sa.Index("event_of_visitor", "visitor_id", "entity_id", "happened"),
    )


def upgrade() -> None:
    """Exchange the constraint; SQLite copies the table for it, some seconds for each million of events."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("event", copy_from=_event(), recreate="always"):
            pass
    else:
        op.drop_constraint("event_uuid_key", "event")
    op.create_index("event_once", "event", ["uuid", "entity_id", "happened"], unique=True)


def downgrade() -> None:
    """Keep the first event of each uuid; figures keep what the others had added."""
    op.drop_index("event_once", "event")
    op.execute("DELETE FROM event WHERE id NOT IN (SELECT min(id) FROM event GROUP BY uuid)")
    if op.get_bind().dialect.name == "sqlite":
        unique = sa.UniqueConstraint("uuid")
        with op.batch_alter_table("event", copy_from=_event(unique), recreate="always"):
            pass
    else:
        op.create_unique_constraint("event_uuid_key", "event", ["uuid"])
