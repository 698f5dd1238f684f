"""Numbers of records of changes by day, counted of those that are there, and the indexes that filters need."""

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.entities.history import FILTERED, create_change_indexes

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DAYS = {
    "sqlite": "CAST(strftime('%s', created) AS INTEGER) / 86400",
    "postgresql": "CAST(floor(extract(epoch FROM created) / 86400) AS INTEGER)",
}


def upgrade() -> None:
    """Create the table and the indexes, and count."""
    op.create_table(
        "change_counts",
        sa.Column("project_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entity_type", sa.String(32), primary_key=True),
        sa.Column("user_name", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, nullable=False),
    )
    day = DAYS[op.get_bind().dialect.name]
    for entity_type in ("entity_type", "''"):
        for user_name in ("user_name", "''"):
            where = "WHERE user_name <> ''" if user_name == "user_name" else ""
            op.execute(
                "INSERT INTO change_counts (project_id, entity_type, user_name, day, number)"  # noqa: S608
                f" SELECT project_id, {entity_type}, {user_name}, {day}, count(*) FROM changes {where}"
                " GROUP BY 1, 2, 3, 4"
            )
    create_change_indexes(op)


def downgrade() -> None:
    """Drop them."""
    for column in FILTERED:
        op.drop_index(f"ix_changes_project_id_{column}", "changes")
    op.drop_table("change_counts")
