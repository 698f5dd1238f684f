"""The lease of the one worker that works on subject access requests, and the order of its work."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.storage.database import UtcTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the lease, which nobody has, and the index."""
    lease = op.create_table(
        "subject_access_lease",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires", UtcTime, nullable=False),
    )
    op.bulk_insert(lease, [{"name": "worker", "holder": "", "expires": datetime(2000, 1, 1, tzinfo=UTC)}])
    op.create_index("ix_subject_access_requests_status_id", "subject_access_requests", ["status", "id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_subject_access_requests_status_id", "subject_access_requests")
    op.drop_table("subject_access_lease")
