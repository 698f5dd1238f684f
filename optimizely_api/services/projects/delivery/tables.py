"""The tables of deliveries. Every change here needs a migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from optimizely_api.services.projects.lease import lease_table
from optimizely_api.services.projects.tables import METADATA
from optimizely_api.services.projects.webhooks import WEBHOOKS
from optimizely_api.services.storage.database import UtcTime

# A delivery is `pending`, until it is `delivered`, `given_up`, or `dropped`: the webhook no longer wants it.
deliveries = Table(
    "webhook_deliveries",
    METADATA,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True
    ),  # the order of a webhook's calls
    Column("uuid", String(36), nullable=False),  # the receiver's: the same in every attempt
    Column("webhook_id", BigInteger, ForeignKey(WEBHOOKS.table.c.id, ondelete="CASCADE"), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("last_attempt", UtcTime),
    Column("next_attempt", UtcTime),  # while it is pending
    Column("tried_version", UtcTime),  # `last_modified` of the webhook that was called last
    Column("last_error", Text),
    Index("ix_webhook_deliveries_webhook_id_state_id", "webhook_id", "state", "id"),
    Index("ix_webhook_deliveries_state_last_attempt", "state", "last_attempt"),
)

feeds = Table(
    "webhook_feeds",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("position", BigInteger, nullable=False),  # the last id of the feed whose deliveries are stored
)

# Of the sender that works.
lease = lease_table("webhook_lease", METADATA)
