"""The tables of the experiments service. A migration goes with every change here."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from optimizely_api.services.entities.history import change_table
from optimizely_api.services.storage.database import UtcTime
from optimizely_api.services.storage.ids import id_table

METADATA = MetaData()

next_ids = id_table(METADATA)
changes = change_table(METADATA)

# The public API calls a layer a campaign. That of a single experiment has the experiment's status, and none of its own.
layers = Table(
    "layers",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("type", String(16), nullable=False),
    Column("document", JSON, nullable=False),
    Column("status", String(16)),  # of a campaign for personalization: not_started, running or paused
    Column("earliest", UtcTime),
    Column("latest", UtcTime),
    Column("paused", UtcTime),  # since when the campaign as a whole does not run
    Column("pauses", JSON, nullable=False, default=list),  # those that are over: pairs of times
    Column("archived", UtcTime),
    # By the id of an experience: its `status` and `awaits_start` before that, or only its status.
    Column("archived_with", JSON, nullable=False, default=dict),
    Column("created", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    Index("ix_layers_account_id_id", "account_id", "id"),
    Index("ix_layers_project_id_id", "project_id", "id"),
)

experiments = Table(
    "experiments",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("layer_id", BigInteger, ForeignKey("layers.id"), nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("key", String(64)),
    Column("is_classic", Boolean, nullable=False),
    Column("document", JSON, nullable=False),  # every property that callers set, variation ids included
    Column("stats_config", JSON, nullable=False),
    Column("baseline_variation_id", BigInteger),
    Column("frozen", JSON(none_as_null=True)),  # what results are computed by, from the first start on
    Column("status", String(16), nullable=False),
    Column("awaits_start", Boolean, nullable=False),
    Column("earliest", UtcTime),
    Column("latest", UtcTime),
    Column("runs", JSON, nullable=False, default=list),  # see runs.py
    Column("created", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    UniqueConstraint("project_id", "key", name="uq_experiments_project_id_key"),
    Index("ix_experiments_account_id_id", "account_id", "id"),
    Index("ix_experiments_project_id_id", "project_id", "id"),
    Index("ix_experiments_layer_id_id", "layer_id", "id"),
)

events = Table(
    "events",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("key", String(64)),
    Column("name", Text, nullable=False),
    Column("is_classic", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("page_id", BigInteger),
    Column("document", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    UniqueConstraint("project_id", "key", name="uq_events_project_id_key"),
    Index("ix_events_account_id_id", "account_id", "id"),
    Index("ix_events_project_id_id", "project_id", "id"),
    Index("ix_events_page_id_id", "page_id", "id"),
)

list_contents = Table(
    "list_contents",
    METADATA,
    Column("list_attribute_id", BigInteger, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),  # entries separated by commas
)
