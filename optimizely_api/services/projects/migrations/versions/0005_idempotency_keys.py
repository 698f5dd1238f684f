"""Idempotency keys, and what was made for them."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.http.made_once import create_made_once_table

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    create_made_once_table(op)
    op.create_table(
        "idempotency_keys",
        sa.Column("key_sha256", sa.String(64), primary_key=True),
        sa.Column("token_id", sa.BigInteger, nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("operation", sa.String(32), nullable=False, unique=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("entity_tag", sa.String(128)),
        sa.Column("body", sa.LargeBinary),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_idempotency_keys_created", "idempotency_keys", ["created"])
    op.create_index("ix_idempotency_keys_token_id_created", "idempotency_keys", ["token_id", "created"])


def downgrade() -> None:
    """Drop them."""
    for table in ("idempotency_keys", "made_once"):
        op.drop_table(table)
