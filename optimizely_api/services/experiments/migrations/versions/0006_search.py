"""The index of search, and what experiments and features name; 0014 fills both with what is there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from optimizely_api.services.storage.database import UtcTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # there the id of the row is no second index
FILTERED = (
    "id",
    "archived",
    "kind",
    "sub_type",
    "status",
    "awaits_start",
    "starts",
    "stops",
    "status_once_started",
)
ORDERS = {
    "account_id_last_modified": ("account_id", "last_modified", *FILTERED, "project_id"),
    "project_id_last_modified": ("project_id", "last_modified", *FILTERED),
    "account_id_id": ("account_id", "id"),
    "account_id_sort_name": ("account_id", "sort_name", "id"),
    "account_id_created": ("account_id", "created", "id"),
    "account_id_experiment_type": ("account_id", "experiment_type", "id"),
}


def upgrade() -> None:
    """Create the tables."""
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    words = TSVECTOR() if is_postgresql else sa.Text()
    op.create_table(
        "search_entries",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sub_type", sa.String(32)),
        sa.Column("experiment_type", sa.String(32), nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("status", sa.String(16)),
        sa.Column("awaits_start", sa.Boolean, nullable=False),
        sa.Column("starts", UtcTime),
        sa.Column("stops", UtcTime),
        sa.Column("status_once_started", sa.String(16)),
        sa.Column("sort_name", sa.Text(collation="C" if is_postgresql else None), nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("last_modified", UtcTime, nullable=False),
        sa.Column("names", words),
    )
    op.create_table(
        "search_results",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("shown", sa.JSON, nullable=False),
        sa.Column("texts", words),
    )
    op.create_table(
        "uses",
        sa.Column("used", sa.String(32), primary_key=True),
        sa.Column("entity_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("archived", sa.Boolean, nullable=False),
    )
    if not is_postgresql:
        # Words come divided by spaces: nothing but ASCII is a separator, and the marks of ids and environments are not.
        op.execute(
            "CREATE VIRTUAL TABLE search_words USING fts5"
            "(names, texts, tokenize = \"ascii tokenchars '#@~'\", detail = 'column')"
        )
    for name, columns in ORDERS.items():
        op.create_index(f"ix_search_entries_{name}", "search_entries", list(columns))
    op.create_index("ix_uses_entity_id", "uses", ["entity_id"])
    if is_postgresql:
        op.create_index("ix_search_entries_names", "search_entries", ["names"], postgresql_using="gin")
        op.create_index("ix_search_results_texts", "search_results", ["texts"], postgresql_using="gin")


def downgrade() -> None:
    """Drop the tables."""
    for name in ("uses", "search_results", "search_entries"):
        op.drop_table(name)
    if op.get_bind().dialect.name != "postgresql":
        op.drop_table("search_words")
