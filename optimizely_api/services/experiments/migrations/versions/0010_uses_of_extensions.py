"""The extensions that experiments use, and the pages of events in the index of search."""

from alembic import op

from optimizely_api.services.experiments.search.upkeep import fill

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write both again."""
    fill(op.get_bind(), ("experiment", "event"))


def downgrade() -> None:
    """Remove the uses; the pages are shown by no earlier release."""
    op.execute("DELETE FROM uses WHERE used LIKE 'extension:%'")
