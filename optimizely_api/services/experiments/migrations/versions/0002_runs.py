"""When experiments ran and with which weights, and when their campaigns were paused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_EXPERIMENTS = sa.table(
    "experiments",
    sa.column("id", sa.BigInteger),
    sa.column("document", sa.JSON),
    sa.column("status", sa.String),
    sa.column("earliest", _TIME),
    sa.column("latest", _TIME),
    sa.column("runs", sa.JSON),
)


def upgrade() -> None:
    """Take each experiment for running from its first start to its last end: earlier pauses are not known."""
    for table, column in (("layers", "pauses"), ("experiments", "runs")):
        op.add_column(table, sa.Column(column, sa.JSON, nullable=False, server_default="[]"))
    connection = op.get_bind()
    started = sa.select(_EXPERIMENTS).where(_EXPERIMENTS.c.earliest.is_not(None))
    for row in connection.execute(started).all():
        change = sa.update(_EXPERIMENTS).where(_EXPERIMENTS.c.id == row.id)
        connection.execute(change.values(runs=[_run(row)]))


def _run(row: Any) -> dict[str, Any]:
    is_over = row.status != "running" and row.latest is not None
    return {
        "start_time": _text(row.earliest),
        "end_time": _text(row.latest) if is_over else None,
        "weights": {
            str(variation["variation_id"]): variation["weight"] if variation["status"] == "active" else 0
            for variation in row.document["variations"]
        },
    }


def _text(moment: datetime) -> str:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def downgrade() -> None:
    """Forget them."""
    op.drop_column("experiments", "runs")
    op.drop_column("layers", "pauses")
