"""Users of accounts, their roles in projects, and the user of a token."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the tokens that there are have no user."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("first_name", sa.Text, nullable=False),
        sa.Column("last_name", sa.Text, nullable=False),
        sa.Column("is_administrator", sa.Boolean, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("account_id", "email", name="uq_users_account_id_email"),
    )
    op.create_table(
        "project_roles",
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("project_id", sa.BigInteger, sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("role", sa.String(32), nullable=False),
    )
    op.add_column("tokens", sa.Column("user_id", sa.String(36)))


def downgrade() -> None:
    """Drop them; tokens of users would be those of administrators then, so they go too."""
    op.execute("DELETE FROM tokens WHERE user_id IS NOT NULL")
    op.drop_column("tokens", "user_id")
    for table in ("project_roles", "users"):
        op.drop_table(table)
