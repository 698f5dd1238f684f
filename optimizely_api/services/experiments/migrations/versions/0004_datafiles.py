"""Datafiles of environments, their revisions, and who has which bucket."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty: the gateway names the environments."""
    op.create_table(
        "datafiles",
        sa.Column("environment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("sdk_key", sa.String(64), nullable=False, unique=True),
        sa.Column("environment_key", sa.Text, nullable=False),
        sa.Column("is_primary", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("environment_version", UtcTime, nullable=False),
        sa.Column("platform", sa.String(16), nullable=False),
        sa.Column("anonymize_ip", sa.Boolean, nullable=False),
        sa.Column("project_version", UtcTime, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("built", UtcTime, nullable=False),
        sa.Column("next_change", UtcTime, index=True),
    )
    op.create_table(
        "datafile_revisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("environment_id", sa.BigInteger, nullable=False),
        sa.Column("environment_key", sa.Text, nullable=False),
        sa.Column("sdk_key", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("created", UtcTime, nullable=False),
    )
    op.create_table(
        "bucket_maps",
        sa.Column("entity_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("project_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("divided", sa.JSON, nullable=False),
        sa.Column("buckets", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("bucket_maps", "datafile_revisions", "datafiles"):
        op.drop_table(name)
