"""What subject access requests have found."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "subject_access_exports",
        sa.Column(
            "request_id",
            sa.BigInteger,
            sa.ForeignKey("subject_access_requests.id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("expires", UtcTime, nullable=False),
    )
    op.create_index("ix_subject_access_exports_expires", "subject_access_exports", ["expires"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("subject_access_exports")
