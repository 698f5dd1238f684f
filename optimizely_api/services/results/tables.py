"""The tables of the results service.

Raw data: `visitor` (an account's visitor ids, interned to integers), `event` (every event once, by `uuid`,
entity and time), `assignment` (a visitor's first decision for an experiment), `later_decision` (some of the decisions
after it), `visitor_event_id` (the event ids that a visitor converted on), `attribute` and `visitor_attribute` (the
attributes of a visitor's events).

Rollups, updated in the same transaction as the raw data (see `rollups.py`): `visitor_total` sums a visitor's
attributed conversions of each day. `cell` sums visitor totals (and their squares) over the visitors of one variation
who entered in the same hour. `entry_slot` counts those visitors. A query adds up cells; it reads raw data only for
hours of entry that its interval cuts. `growth` has each day's change of the sums, for the looks at past times.

`impressions` counts decision events by experiment and day, for the usage that accounts are billed by.

`event_key` says which event a sender means by a key.

`data_version` grows with every change that may affect an experiment's results (see `versions.py`).

The database calls an hour of entry `slot`, in the table `entry_slot` and in two columns. Python calls it `entry_hour`.

Times are integer milliseconds since 1970, as the SDKs send them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

HOUR_MILLISECONDS = 3_600_000
ANY_EVENT = 0  # as `entity_id` of a rollup: all conversions of a project together
HOLDBACK = 0  # as `variation_id`: the visitor was held back from the campaign, and saw no variation
NO_PROJECT = 0  # as `project_id` of a rollup: the sender named no project, or the row is about one event

# SQLite numbers rows by itself only where the column is spelled INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")

VISITOR = Table(
    "visitor",
    METADATA,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("account_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    UniqueConstraint("account_id", "key"),
)

EVENT = Table(
    "event",
    METADATA,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("uuid", LargeBinary(16), nullable=False),  # the sender's uuid; a digest of the visitor without one
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), nullable=False),
    Column("happened", BigInteger, nullable=False),
    Column("is_impression", Boolean, nullable=False),
    Column("entity_id", BigInteger),  # null when the sender's is missing or not numeric
    Column("project_id", BigInteger),
    Column("key", Text),
    Column("revenue", BigInteger),  # cents
    Column("value", Double),
    Column("tags", Text),  # JSON, without revenue and value
    Index("event_of_visitor", "visitor_id", "entity_id", "happened"),
    # Unique indexes treat nulls as different: for events without an entity only the look-up before storing
    # prevents duplicates.
    Index("event_once", "uuid", "entity_id", "happened", unique=True),
)

VISITOR_EVENT_ID = Table(
    "visitor_event_id",
    METADATA,
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), primary_key=True),
    Column("entity_id", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

ASSIGNMENT = Table(
    "assignment",
    METADATA,
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), primary_key=True),
    Column("experiment_id", BigInteger, primary_key=True),
    Column("variation_id", BigInteger, nullable=False),
    Column("entered", BigInteger, nullable=False),
    Column("project_id", BigInteger),
    Index("assignment_of_experiment", "experiment_id", "entered", "variation_id", "visitor_id"),
    sqlite_with_rowid=False,
)

LATER_DECISION = Table(
    "later_decision",
    METADATA,
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), primary_key=True),
    Column("experiment_id", BigInteger, primary_key=True),
    Column("entered", BigInteger, primary_key=True),
    Column("rank", BigInteger, primary_key=True),  # of the variation: orders decisions of one millisecond
    Column("variation_id", BigInteger, nullable=False),
    Column("project_id", BigInteger),
    sqlite_with_rowid=False,
)

ATTRIBUTE = Table(
    "attribute",
    METADATA,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    # A digest of the columns below: an index over all of them may be too wide for PostgreSQL.
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    Column("entity_id", Text, nullable=False, index=True),
    Column("key", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),  # string, number, boolean
    Column("value", Text, nullable=False),  # as JSON, strings without quotes
    # The value in Python's case folding: SQLite folds only ASCII.
    Column("folded", Text, nullable=False),
)

VISITOR_ATTRIBUTE = Table(
    "visitor_attribute",
    METADATA,
    Column("attribute_id", BigInteger, ForeignKey("attribute.id"), primary_key=True),
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), primary_key=True),
    Index("visitor_attribute_of_visitor", "visitor_id"),
    sqlite_with_rowid=False,
)

VISITOR_TOTAL = Table(
    "visitor_total",
    METADATA,
    Column("visitor_id", BigInteger, ForeignKey("visitor.id"), primary_key=True),
    Column("experiment_id", BigInteger, primary_key=True),
    Column("entity_id", BigInteger, primary_key=True),  # the event's id, or ANY_EVENT
    Column("project_id", BigInteger, primary_key=True),  # NO_PROJECT unless ANY_EVENT
    Column("day", BigInteger, primary_key=True),  # of the conversions, counted from 1970 (UTC)
    Column("events", BigInteger, nullable=False),
    Column("revenue", Double, nullable=False),
    Column("value", Double, nullable=False),
    Column("revenue_squares", Double, nullable=False),  # sum over events of revenue squared
    Column("value_squares", Double, nullable=False),
    sqlite_with_rowid=False,
)

# What a cell sums over visitors, in the order of `rollups.contribution`.
CELL_SUMS = (
    "converting",
    "events",
    "events_events",
    "revenue",
    "revenue_revenue",
    "revenue_events",
    "revenue_squares",
    "value",
    "value_value",
    "value_events",
    "value_squares",
)
# Whole numbers add up exactly in a double. For the other sums, `<name>_rest` holds the rounding error, so that small
# amounts survive when a large one moves to another cell.
COMPENSATED_SUMS = CELL_SUMS[3:]

CELL = Table(
    "cell",
    METADATA,
    Column("experiment_id", BigInteger, primary_key=True),
    Column("slot", BigInteger, key="entry_hour", primary_key=True),
    Column("variation_id", BigInteger, primary_key=True),
    Column("entity_id", BigInteger, primary_key=True),
    Column("project_id", BigInteger, primary_key=True),
    *(Column(name, Double, nullable=False) for name in CELL_SUMS),
    *(Column(f"{name}_rest", Double, nullable=False) for name in COMPENSATED_SUMS),
    sqlite_with_rowid=False,
)

GROWTH_FIELDS = ("events", "revenue", "value")
# Sums over the visitors of a size class; x is a visitor's total of the field.
GROWTH_SUMS = ("visitors", "x", "xx", "x_events", "events")

GROWTH = Table(
    "growth",
    METADATA,
    Column("experiment_id", BigInteger, primary_key=True),
    Column("entry_day", BigInteger, primary_key=True),
    Column("day", BigInteger, primary_key=True),
    Column("variation_id", BigInteger, primary_key=True),
    Column("entity_id", BigInteger, primary_key=True),
    Column("project_id", BigInteger, primary_key=True),
    Column("field", BigInteger, primary_key=True),  # index in GROWTH_FIELDS
    Column("size", BigInteger, primary_key=True),  # see growth.size_class
    *(Column(name, Double, nullable=False) for name in GROWTH_SUMS),
    sqlite_with_rowid=False,
)

ENTRY_HOUR = Table(
    "entry_slot",
    METADATA,
    Column("experiment_id", BigInteger, primary_key=True),
    Column("slot", BigInteger, key="entry_hour", primary_key=True),
    Column("variation_id", BigInteger, primary_key=True),
    Column("visitors", BigInteger, nullable=False),
    # Bounds: `first_entered` is at or before the hour's first entry, `last_activity` at or after its visitors' last.
    Column("first_entered", BigInteger, nullable=False),
    Column("last_activity", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

IMPRESSIONS = Table(
    "impressions",
    METADATA,
    Column("experiment_id", BigInteger, primary_key=True),
    Column("day", BigInteger, primary_key=True),  # counted from 1970 (UTC)
    Column("impressions", BigInteger, nullable=False),  # decision events that named the experiment
    sqlite_with_rowid=False,
)

DATA_VERSION = Table(
    "data_version",
    METADATA,
    Column("experiment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

# Which event a key names. See ingest/event_keys.py.
EVENT_KEY = Table(
    "event_key",
    METADATA,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("event_id", BigInteger, nullable=False),
)

# One row: the last change of the experiments service whose keys are in `event_key`.
FEED_POSITION = Table(
    "feed_position",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
