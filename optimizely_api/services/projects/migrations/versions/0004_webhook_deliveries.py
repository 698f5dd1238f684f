"""Deliveries of webhooks, how far the feeds are read, and the lease of the one sender."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the lease, which nobody has."""
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column(
            "webhook_id", sa.BigInteger, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("last_attempt", UtcTime),
        sa.Column("next_attempt", UtcTime),
        sa.Column("tried_version", UtcTime),
        sa.Column("last_error", sa.Text),
    )
    op.create_index(
        "ix_webhook_deliveries_webhook_id_state_id", "webhook_deliveries", ["webhook_id", "state", "id"]
    )
    op.create_index(
        "ix_webhook_deliveries_state_last_attempt", "webhook_deliveries", ["state", "last_attempt"]
    )
    op.create_table(
        "webhook_feeds",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    lease = op.create_table(
        "webhook_lease",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires", UtcTime, nullable=False),
    )
    op.bulk_insert(lease, [{"name": "sender", "holder": "", "expires": datetime(2000, 1, 1, tzinfo=UTC)}])


def downgrade() -> None:
    """Drop them."""
    for table in ("webhook_lease", "webhook_feeds", "webhook_deliveries"):
        op.drop_table(table)
