"""Decisions after a visitor's first, for questions in which the first one does not count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: which variation an earlier decision named is not stored anywhere else."""
    op.create_table(
        "later_decision",
        sa.Column(
            "visitor_id", sa.BigInteger, sa.ForeignKey("visitor.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("experiment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entered", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("rank", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("variation_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("later_decision")
