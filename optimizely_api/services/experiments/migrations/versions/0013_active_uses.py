"""Which uses are active, and those of pages and of members of groups; the index of search is written with them."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.experiments.search.upkeep import fill

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A later change of `uses`, `search_entries` or `search_results` takes `fill` to its own migration.


def upgrade() -> None:
    """Add the column, and write all that follows from entities."""
    op.add_column("uses", sa.Column("active", sa.Boolean, nullable=False, server_default=sa.false()))
    fill(op.get_bind())


def downgrade() -> None:
    """Remove what no earlier release knows."""
    op.execute(
        "DELETE FROM uses WHERE used LIKE 'page:%' OR used LIKE 'experiment:%' OR used LIKE 'campaign:%'"
    )
    op.drop_column("uses", "active")
