"""Changes of environments and projects, which webhooks are called for."""

from alembic import op

from optimizely_api.services.entities.history import create_change_table

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    create_change_table(op)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("changes")
