"""Which uses are active, and those of pages and of members of groups; 0014 writes them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("uses", sa.Column("active", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Remove what no earlier release knows."""
    op.execute(
        "DELETE FROM uses WHERE used LIKE 'page:%' OR used LIKE 'experiment:%' OR used LIKE 'campaign:%'"
    )
    op.drop_column("uses", "active")
