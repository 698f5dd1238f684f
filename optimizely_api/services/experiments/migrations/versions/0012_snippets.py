"""What is in the snippets of projects for the web, how often it has changed, and how large it is."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: the gateway names each project before it shows it."""
    op.create_table(
        "snippets",
        sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("version", UtcTime, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("next_change", UtcTime, index=True),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("snippets")
