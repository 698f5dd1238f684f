"""Which events the keys that senders name are."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and how far the feed that fills it is read."""
    op.create_table(
        "event_key",
        sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("event_id", sa.BigInteger, nullable=False),
    )
    position = op.create_table(
        "feed_position",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(position, [{"name": "changes", "position": 0}])


def downgrade() -> None:
    """Drop them."""
    for table in ("feed_position", "event_key"):
        op.drop_table(table)
