"""The words of all texts beside what is filtered and sorted; the index of search and `uses` are written anew."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from optimizely_api.services.experiments.search.upkeep import fill

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# A later change of `uses`, `search_entries` or `search_results` takes `fill` to its own migration.


def upgrade() -> None:
    """Move the column, and write all that follows from entities."""
    if _is_postgresql():
        # In the order in which writers take them: one that has written its uses ends first.
        op.execute("LOCK TABLE uses, search_entries, search_results")
        # Updates would leave twice as much on the disk.
        op.execute("TRUNCATE search_entries, search_results")
    _add("search_entries")
    _drop("search_results")
    fill(op.get_bind())


def downgrade() -> None:
    """Move the column back with its words."""
    _add("search_results")
    op.execute(
        "UPDATE search_results SET texts ="
        " (SELECT texts FROM search_entries WHERE search_entries.id = search_results.id)"
    )
    _drop("search_entries")


def _add(table: str) -> None:
    op.add_column(table, sa.Column("texts", TSVECTOR() if _is_postgresql() else sa.Text()))
    if _is_postgresql():
        op.create_index(f"ix_{table}_texts", table, ["texts"], postgresql_using="gin")


def _drop(table: str) -> None:
    if _is_postgresql():
        op.drop_index(f"ix_{table}_texts", table)
    op.drop_column(table, "texts")


def _is_postgresql() -> bool:
    return bool(op.get_bind().dialect.name == "postgresql")
