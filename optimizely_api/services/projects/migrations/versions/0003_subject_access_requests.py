"""Subject access requests."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "subject_access_requests",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("data_type", sa.String(16), nullable=False),
        sa.Column("identifier", sa.Text, nullable=False),
        sa.Column("identifier_type", sa.String(32), nullable=False),
        sa.Column("request_type", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("requested_at_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sla_deadline_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("processing_started_time", sa.DateTime(timezone=True)),
        sa.Column("completed_at_time", sa.DateTime(timezone=True)),
        sa.Column("expired_at_time", sa.DateTime(timezone=True)),
        sa.Column("export_location", sa.Text),
    )
    op.create_index(
        "ix_subject_access_requests_account_id_id", "subject_access_requests", ["account_id", "id"]
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("subject_access_requests")
