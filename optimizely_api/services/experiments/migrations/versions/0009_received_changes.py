"""The ids that records of changes have in the service that made them."""

from alembic import op

from optimizely_api.services.entities.history import ORIGIN_ID, ORIGIN_INDEX, TABLE, create_origin_ids

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

RECEIVED = "('environment', 'project')"


def upgrade() -> None:
    """Add the column."""
    create_origin_ids(op)


def downgrade() -> None:
    """Remove the received records, from the days' numbers too, and the column."""
    op.execute(f"DELETE FROM {TABLE} WHERE {ORIGIN_ID} IS NOT NULL")  # noqa: S608
    op.execute(
        "UPDATE change_counts SET number = number - (SELECT coalesce(sum(received.number), 0)"  # noqa: S608
        " FROM change_counts AS received WHERE received.project_id = change_counts.project_id"
        " AND received.day = change_counts.day AND received.user_name = change_counts.user_name"
        f" AND received.entity_type IN {RECEIVED}) WHERE entity_type = ''"
    )
    op.execute(f"DELETE FROM change_counts WHERE entity_type IN {RECEIVED}")  # noqa: S608
    op.drop_index(ORIGIN_INDEX, TABLE)
    op.drop_column(TABLE, ORIGIN_ID)
