"""The extensions that experiments use, and the pages of events in the index of search; 0014 writes both."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave all to 0014."""


def downgrade() -> None:
    """Remove the uses; the pages are shown by no earlier release."""
    op.execute("DELETE FROM uses WHERE used LIKE 'extension:%'")
