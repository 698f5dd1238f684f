"""Entities of the contract with tables of their own; the history of changes; the page of a click event as a column."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.entities.history import create_change_table
from optimizely_api.services.entities.tables import create_entity_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES: dict[str, tuple[str, ...]] = {  # with their further columns
    "attributes": (),
    "pages": (),
    "audiences": (),
    "list_attributes": (),
    "extensions": (),
    "features": (),
    "groups": (),
    "sections": ("experiment_id",),
}
_EVENTS = sa.table(
    "events",
    sa.column("id", sa.BigInteger),
    sa.column("document", sa.JSON),
    sa.column("page_id", sa.BigInteger),
)


def upgrade() -> None:
    """Create the tables, and take `page_id` out of the events' documents."""
    for name, further in TABLES.items():
        create_entity_table(op, name, further)
    create_change_table(op)
    op.add_column("events", sa.Column("page_id", sa.BigInteger))
    op.create_index("ix_events_page_id_id", "events", ["page_id", "id"])
    connection = op.get_bind()
    for row in connection.execute(sa.select(_EVENTS)).all():
        if (page_id := row.document.get("page_id")) is not None:
            document = {name: value for name, value in row.document.items() if name != "page_id"}
            change = sa.update(_EVENTS).where(_EVENTS.c.id == row.id)
            connection.execute(change.values(page_id=page_id, document=document))


def downgrade() -> None:
    """Drop the tables, and put `page_id` back."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(_EVENTS).where(_EVENTS.c.page_id.is_not(None))).all():
        change = sa.update(_EVENTS).where(_EVENTS.c.id == row.id)
        connection.execute(change.values(document={**row.document, "page_id": row.page_id}))
    op.drop_index("ix_events_page_id_id", "events")
    op.drop_column("events", "page_id")
    for name in ("changes", *reversed(TABLES)):
        op.drop_table(name)
