"""Layers (campaigns), experiments and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables and the id sequence."""
    next_ids = op.create_table(
        "next_ids",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("next_id", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(next_ids, [{"name": "ids", "next_id": 20_000_000_001}])
    op.create_table(
        "layers",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("paused", TIME),
        sa.Column("archived", TIME),
        sa.Column("created", TIME, nullable=False),
        sa.Column("last_modified", TIME, nullable=False),
    )
    op.create_index("ix_layers_account_id_id", "layers", ["account_id", "id"])
    op.create_index("ix_layers_project_id_id", "layers", ["project_id", "id"])
    op.create_table(
        "experiments",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("layer_id", sa.BigInteger, sa.ForeignKey("layers.id"), nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(64)),
        sa.Column("is_classic", sa.Boolean, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("stats_config", sa.JSON, nullable=False),
        sa.Column("baseline_variation_id", sa.BigInteger),
        sa.Column("frozen", sa.JSON(none_as_null=True)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("awaits_start", sa.Boolean, nullable=False),
        sa.Column("earliest", TIME),
        sa.Column("latest", TIME),
        sa.Column("created", TIME, nullable=False),
        sa.Column("last_modified", TIME, nullable=False),
        sa.UniqueConstraint("project_id", "key", name="uq_experiments_project_id_key"),
    )
    op.create_index("ix_experiments_account_id_id", "experiments", ["account_id", "id"])
    op.create_index("ix_experiments_project_id_id", "experiments", ["project_id", "id"])
    op.create_index("ix_experiments_layer_id_id", "experiments", ["layer_id", "id"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(64)),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("is_classic", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("last_modified", TIME, nullable=False),
        sa.UniqueConstraint("project_id", "key", name="uq_events_project_id_key"),
    )
    op.create_index("ix_events_account_id_id", "events", ["account_id", "id"])
    op.create_index("ix_events_project_id_id", "events", ["project_id", "id"])


def downgrade() -> None:
    """Drop them again."""
    for table in ("events", "experiments", "layers", "next_ids"):
        op.drop_table(table)
