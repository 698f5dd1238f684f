"""Attributes."""

from alembic import op

from optimizely_api.services.entities.tables import create_entity_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    create_entity_table(op, "attributes")


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("attributes")
