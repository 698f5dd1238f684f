"""A row for each revision of a snippet, which webhooks are called about."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: nobody has been listening."""
    op.create_table(
        "snippet_revisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created", UtcTime, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("snippet_revisions")
