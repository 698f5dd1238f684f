"""Environments by their SDK keys."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ENVIRONMENTS = sa.table("environments", sa.column("id", sa.BigInteger), sa.column("document", sa.JSON))


def upgrade() -> None:
    """Create the table, with the keys of all environments."""
    sdk_keys = op.create_table(
        "sdk_keys",
        sa.Column("sdk_key", sa.String(64), primary_key=True),
        sa.Column("environment_id", sa.BigInteger, nullable=False),
    )
    rows = [
        {"sdk_key": row.document["datafile"]["sdk_key"], "environment_id": row.id}
        for row in op.get_bind().execute(sa.select(_ENVIRONMENTS))
    ]
    if rows:
        op.bulk_insert(sdk_keys, rows)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("sdk_keys")
