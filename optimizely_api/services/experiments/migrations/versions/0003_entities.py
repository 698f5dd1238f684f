"""Entities with tables of their own; the history of changes; a click event's page as a column; a campaign's status."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.entities.history import create_change_table
from optimizely_api.services.entities.tables import create_entity_table
from optimizely_api.services.storage.database import UtcTime

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
_LAYERS = sa.table(
    "layers",
    sa.column("id", sa.BigInteger),
    sa.column("type", sa.String),
    sa.column("status", sa.String),
    sa.column("earliest", UtcTime),
    sa.column("latest", UtcTime),
    sa.column("paused", UtcTime),
    sa.column("created", UtcTime),
)
_EXPERIMENTS = sa.table("experiments", sa.column("layer_id", sa.BigInteger), sa.column("earliest", UtcTime))


def upgrade() -> None:
    """Create the tables, take `page_id` out of the events' documents, and give campaigns a status."""
    for name, further in TABLES.items():
        create_entity_table(op, name, further)
    op.create_table(
        "list_contents",
        sa.Column("list_attribute_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    create_change_table(op)
    op.add_column("events", sa.Column("page_id", sa.BigInteger))
    op.create_index("ix_events_page_id_id", "events", ["page_id", "id"])
    connection = op.get_bind()
    for row in connection.execute(sa.select(_EVENTS)).all():
        if (page_id := row.document.get("page_id")) is not None:
            document = {name: value for name, value in row.document.items() if name != "page_id"}
            change = sa.update(_EVENTS).where(_EVENTS.c.id == row.id)
            connection.execute(change.values(page_id=page_id, document=document))
    _give_campaigns_a_status(connection)


def _give_campaigns_a_status(connection: sa.Connection) -> None:
    """Until now a campaign for personalization ran when one of its experiments had been started."""
    op.add_column("layers", sa.Column("status", sa.String(16)))
    op.add_column("layers", sa.Column("earliest", UtcTime))
    op.add_column("layers", sa.Column("latest", UtcTime))
    op.add_column("layers", sa.Column("archived_with", sa.JSON, nullable=False, server_default="{}"))
    for row in connection.execute(sa.select(_LAYERS).where(_LAYERS.c.type == "personalization")).all():
        first = sa.select(sa.func.min(_EXPERIMENTS.c.earliest)).where(_EXPERIMENTS.c.layer_id == row.id)
        earliest = connection.execute(first).scalar_one()
        status = "paused" if row.paused else "running" if earliest else "not_started"
        paused = row.created if status == "not_started" else row.paused
        values = {"status": status, "earliest": earliest, "latest": row.paused, "paused": paused}
        connection.execute(sa.update(_LAYERS).where(_LAYERS.c.id == row.id).values(**values))


def downgrade() -> None:
    """Drop the tables, put `page_id` back, and let campaigns follow their experiments."""
    connection = op.get_bind()
    unstarted = sa.update(_LAYERS).where(_LAYERS.c.status == "not_started")
    connection.execute(unstarted.values(paused=None))
    for column in ("archived_with", "latest", "earliest", "status"):
        op.drop_column("layers", column)
    for row in connection.execute(sa.select(_EVENTS).where(_EVENTS.c.page_id.is_not(None))).all():
        change = sa.update(_EVENTS).where(_EVENTS.c.id == row.id)
        connection.execute(change.values(document={**row.document, "page_id": row.page_id}))
    op.drop_index("ix_events_page_id_id", "events")
    op.drop_column("events", "page_id")
    for name in ("changes", "list_contents", *reversed(TABLES)):
        op.drop_table(name)
