"""The tables of the experiments service. A migration goes with every change here."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from optimizely_api.services.entities.history import change_table
from optimizely_api.services.http.made_once import made_once_table
from optimizely_api.services.storage.database import UtcTime
from optimizely_api.services.storage.ids import id_table

METADATA = MetaData()

next_ids = id_table(METADATA)
changes = change_table(METADATA, is_filtered=True, receives=True)
made_once_table(METADATA)

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

# The environments of projects, which the gateway names, and the datafile of each as it is served.
datafiles = Table(
    "datafiles",
    METADATA,
    Column("environment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False, index=True),
    Column("sdk_key", String(64), nullable=False, unique=True),
    Column("environment_key", Text, nullable=False),
    Column("is_primary", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("environment_version", UtcTime, nullable=False),  # when what is above was changed last
    Column("platform", String(16), nullable=False),
    Column("anonymize_ip", Boolean, nullable=False),
    Column("project_version", UtcTime, nullable=False),  # when the two above were changed last
    Column("revision", Integer, nullable=False),  # 0: not built yet
    Column("content", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),  # bytes of the content
    Column("digest", String(64), nullable=False),  # of the content without its revision
    Column("built", UtcTime, nullable=False),  # whole seconds, different for each revision
    Column("next_change", UtcTime, index=True),  # when a schedule may change it
)

# A row for each revision of a datafile.
datafile_revisions = Table(
    "datafile_revisions",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("environment_id", BigInteger, nullable=False),
    Column("environment_key", Text, nullable=False),
    Column("sdk_key", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created", UtcTime, nullable=False),
)

# The snippet of each project for the web, as the gateway has named it; see snippets/.
snippets = Table(
    "snippets",
    METADATA,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("settings", JSON, nullable=False),  # the project's `web_snippet`
    Column("version", UtcTime, nullable=False),  # when the project was changed last
    Column("revision", Integer, nullable=False),
    Column("size", Integer, nullable=False),  # in bytes
    Column("digest", String(64), nullable=False),
    Column("next_change", UtcTime, index=True),  # when a schedule may change it
)

# A row for each revision of a snippet.
snippet_revisions = Table(
    "snippet_revisions",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("created", UtcTime, nullable=False),
)

# See datafiles/buckets.py.
bucket_maps = Table(
    "bucket_maps",
    METADATA,
    Column("entity_id", BigInteger, primary_key=True, autoincrement=False),  # of an experiment or a group
    Column("project_id", BigInteger, nullable=False, index=True),
    Column("divided", JSON, nullable=False),  # the total, and the pairs of owner and weight
    Column("buckets", JSON, nullable=False),
)

# The index of search, see search/index.py. Words are columns on PostgreSQL; SQLite has them in a table of its own.
_WORDS = Text().with_variant(TSVECTOR(), "postgresql")
_IN_BYTES = Text().with_variant(Text(collation="C"), "postgresql")  # ordered as SQLite orders texts
# Read in an index alone.
_FILTERED = (
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

search_entries = Table(
    "search_entries",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sub_type", String(32)),
    Column("experiment_type", String(32), nullable=False),  # "" of other kinds
    Column("archived", Boolean, nullable=False),
    Column("status", String(16)),
    Column("awaits_start", Boolean, nullable=False),
    Column("starts", UtcTime),  # by the schedule
    Column("stops", UtcTime),
    Column("status_once_started", String(16)),
    Column("sort_name", _IN_BYTES, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    Column("names", _WORDS),  # of name and key
    # Beside what is filtered and sorted: PostgreSQL would join for each row that has a word.
    Column("texts", _WORDS),  # of all that is searched
    Index(
        "ix_search_entries_account_id_last_modified", "account_id", "last_modified", *_FILTERED, "project_id"
    ),
    Index("ix_search_entries_project_id_last_modified", "project_id", "last_modified", *_FILTERED),
    Index("ix_search_entries_account_id_id", "account_id", "id"),
    *(
        Index(f"ix_search_entries_account_id_{column}", "account_id", column, "id")
        for column in ("sort_name", "created", "experiment_type")
    ),
    *(
        Index(f"ix_search_entries_{words}", words, postgresql_using="gin").ddl_if(dialect="postgresql")
        for words in ("names", "texts")
    ),
)

search_results = Table(
    "search_results",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("shown", JSON, nullable=False),
)

# What experiments, features and groups name: `audience:42`, `page:42`, `experiment:42`.
uses = Table(
    "uses",
    METADATA,
    Column("used", String(32), primary_key=True),
    Column("entity_id", BigInteger, primary_key=True, autoincrement=False),
    Column("archived", Boolean, nullable=False),  # what names it
    # An experiment that may run, now or by its schedule; an enabled rollout rule; a member of a group.
    Column("active", Boolean, nullable=False),
    Index("ix_uses_entity_id", "entity_id"),
)

preview_tokens = Table(
    "preview_tokens",
    METADATA,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("token", String(64), nullable=False),  # in addresses that show what a variation changes
)

# See change_counts.py.
change_counts = Table(
    "change_counts",
    METADATA,
    Column("project_id", BigInteger, primary_key=True, autoincrement=False),
    Column("entity_type", String(32), primary_key=True),
    Column("user_name", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
)
