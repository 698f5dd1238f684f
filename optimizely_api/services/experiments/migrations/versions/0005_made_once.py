"""What was made for the operations of the gateway that must be carried out once."""

from alembic import op

from optimizely_api.services.http.made_once import create_made_once_table

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    create_made_once_table(op)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("made_once")
