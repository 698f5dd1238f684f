"""Visitor totals by day, and the growth of the sums that looks at past times are read from."""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

_DAY = 86_400_000
_EXPONENT_OFFSET = 1_100  # makes the exponents of all doubles positive
_TOTAL_KEYS = ("experiment_id", "entity_id", "project_id")
_TOTAL_SUMS = ("revenue", "value", "revenue_squares", "value_squares")
_GROWTH_KEYS = (
    "experiment_id",
    "entry_day",
    "day",
    "variation_id",
    "entity_id",
    "project_id",
    "field",
    "size",
)

# The conversions that count, by day: once under their event, and once under "any event" (0) of their project.
_FILL = f"""
    INSERT INTO visitor_total
    SELECT a.visitor_id, a.experiment_id, {{entity}}, {{project}}, e.happened / {_DAY}, count(*),
      sum(coalesce(e.revenue, 0) * 1.0), sum(coalesce(e.value, 0) * 1.0),
      sum(coalesce(e.revenue, 0) * 1.0 * coalesce(e.revenue, 0)), sum(coalesce(e.value, 0) * 1.0 * coalesce(e.value, 0))
    FROM assignment a JOIN event e ON e.visitor_id = a.visitor_id AND e.happened >= a.entered
    WHERE NOT e.is_impression {{wanted}}
    GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608  # the only texts that are filled in are those below


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Sum up by day what is stored: some seconds for each million of conversions."""
    op.drop_table("visitor_total")
    op.create_table(
        "visitor_total",
        sa.Column(
            "visitor_id", sa.BigInteger, sa.ForeignKey("visitor.id"), primary_key=True, autoincrement=False
        ),
        *(_key(name) for name in (*_TOTAL_KEYS, "day")),
        sa.Column("events", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in _TOTAL_SUMS),
        sqlite_with_rowid=False,
    )
    any_project = "coalesce(e.project_id, a.project_id, 0)"
    for entity, project, wanted in (
        ("e.entity_id", "0", "AND e.entity_id IS NOT NULL"),
        ("0", any_project, ""),
    ):
        op.execute(_FILL.format(entity=entity, project=project, wanted=wanted))
    op.create_table(
        "growth",
        *(_key(name) for name in _GROWTH_KEYS),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("visitors", "x", "xx", "x_events", "events")
        ),
        sqlite_with_rowid=False,
    )
    _fill_growth(op.get_bind())


def _fill_growth(connection: sa.Connection) -> None:
    query = sa.text(
        "SELECT t.visitor_id, t.experiment_id, t.entity_id, t.project_id, t.day, a.variation_id, a.entered,"
        " t.events, t.revenue, t.value FROM visitor_total t JOIN assignment a USING (visitor_id, experiment_id)"
        " ORDER BY t.visitor_id, t.experiment_id, t.entity_id, t.project_id, t.day"
    )
    growth: dict[tuple[int, ...], list[float]] = {}
    path, total = None, (0, 0.0, 0.0)
    for visitor, experiment, entity, project, day, variation, entered, *sums in connection.execute(query):
        if path != (visitor, experiment, entity, project):
            path, total = (visitor, experiment, entity, project), (0, 0.0, 0.0)
        key = (experiment, entered // _DAY, day, variation, entity, project)
        _count(growth, key, total, -1)
        total = (total[0] + sums[0], total[1] + sums[1], total[2] + sums[2])
        _count(growth, key, total, 1)
    insert = sa.text(
        f"INSERT INTO growth VALUES ({', '.join(f':{number}' for number in range(13))})"  # noqa: S608
    )
    rows = [dict(zip(map(str, range(13)), (*key, *row), strict=True)) for key, row in growth.items()]
    if rows:
        connection.execute(insert, rows)


def _count(
    growth: dict[tuple[int, ...], list[float]],
    key: tuple[int, ...],
    total: tuple[int, float, float],
    sign: int,
) -> None:
    """Add a visitor with this total of events, revenue and value to their size classes, or take that visitor out."""
    for field, amount in enumerate(map(float, total)):
        if amount:
            size = math.frexp(amount)[1] + _EXPONENT_OFFSET
            row = growth.setdefault((*key, field, size if amount > 0 else -size), [0.0] * 5)
            added = (1, amount, amount * amount, amount * total[0], total[0])
            for index, number in enumerate(added):
                row[index] += sign * number


def downgrade() -> None:
    """Sum up the days again."""
    op.drop_table("growth")
    op.rename_table("visitor_total", "visitor_day")
    op.create_table(
        "visitor_total",
        sa.Column(
            "visitor_id", sa.BigInteger, sa.ForeignKey("visitor.id"), primary_key=True, autoincrement=False
        ),
        *(_key(name) for name in _TOTAL_KEYS),
        sa.Column("events", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in _TOTAL_SUMS),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO visitor_total SELECT visitor_id, experiment_id, entity_id, project_id, sum(events),"
        " sum(revenue), sum(value), sum(revenue_squares), sum(value_squares) FROM visitor_day GROUP BY 1, 2, 3, 4"
    )
    op.drop_table("visitor_day")
