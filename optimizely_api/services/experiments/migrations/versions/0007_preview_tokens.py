"""A token for each project with experiments, which the addresses for trying variations out carry."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_EXPERIMENTS = sa.table("experiments", sa.column("project_id", sa.BigInteger))


def upgrade() -> None:
    """Create the table, with a token for each project that has experiments."""
    tokens = op.create_table(
        "preview_tokens",
        sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("token", sa.String(64), nullable=False),
    )
    projects = op.get_bind().execute(sa.select(_EXPERIMENTS.c.project_id).distinct()).scalars()
    rows = [{"project_id": project_id, "token": secrets.token_hex(32)} for project_id in projects]
    if rows:
        op.bulk_insert(tokens, rows)


def downgrade() -> None:
    """Forget the tokens."""
    op.drop_table("preview_tokens")
