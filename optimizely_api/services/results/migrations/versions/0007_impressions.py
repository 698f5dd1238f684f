"""Impressions by experiment and day, for an account's usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; of what is stored already, each visitor's first decision for an experiment counts.

    Which experiments a later decision event named was not kept.
    """
    op.create_table(
        "impressions",
        sa.Column("experiment_id", sa.BigInteger, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("impressions", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO impressions (experiment_id, day, impressions)"
        " SELECT experiment_id, entered / 86400000, count(*) FROM assignment"
        " GROUP BY experiment_id, entered / 86400000"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("impressions")
