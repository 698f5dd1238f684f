"""The tables of the projects service. Every change here needs a migration."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from optimizely_api.services.entities.history import change_table
from optimizely_api.services.http.made_once import made_once_table
from optimizely_api.services.projects.lease import lease_table
from optimizely_api.services.storage.database import UtcTime
from optimizely_api.services.storage.ids import id_table

METADATA = MetaData()

next_ids = id_table(METADATA)
changes = change_table(METADATA)  # of environments and projects
made_once_table(METADATA)

accounts = Table(
    "accounts",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("created", UtcTime, nullable=False),
)

tokens = Table(
    "tokens",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    # Only the hash is stored, so that nobody who reads the database can use the tokens.
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("created", UtcTime, nullable=False),
    Column("revoked", UtcTime),
    Column("user_id", String(36)),  # whose roles it has; without one it is an administrator's
)

users = Table(
    "users",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("email", Text, nullable=False),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("is_administrator", Boolean, nullable=False),
    Column("created", UtcTime, nullable=False),
    UniqueConstraint("account_id", "email", name="uq_users_account_id_email"),
)

project_roles = Table(
    "project_roles",
    METADATA,
    Column("user_id", String(36), ForeignKey("users.id"), primary_key=True),
    Column("project_id", BigInteger, ForeignKey("projects.id"), primary_key=True),
    Column("role", String(32), nullable=False),
)

projects = Table(
    "projects",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    # Properties that lists filter by have columns; all others are in the document.
    Column("name", Text, nullable=False),
    Column("platform", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("document", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("last_modified", UtcTime, nullable=False),
    Index("ix_projects_account_id_id", "account_id", "id"),
)

# By the key that SDKs are set up with.
sdk_keys = Table(
    "sdk_keys",
    METADATA,
    Column("sdk_key", String(64), primary_key=True),
    Column("environment_id", BigInteger, nullable=False),
)

subject_access_requests = Table(
    "subject_access_requests",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("data_type", String(16), nullable=False),
    Column("identifier", Text, nullable=False),
    Column("identifier_type", String(32), nullable=False),
    Column("request_type", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("requested_at_time", UtcTime, nullable=False),
    Column("sla_deadline_time", UtcTime, nullable=False),
    Column("processing_started_time", UtcTime),
    Column("completed_at_time", UtcTime),
    Column("expired_at_time", UtcTime),
    Column("export_location", Text),
    Index("ix_subject_access_requests_account_id_id", "account_id", "id"),
    Index("ix_subject_access_requests_status_id", "status", "id"),
)

# What requests to see data have found, until it expires.
subject_access_exports = Table(
    "subject_access_exports",
    METADATA,
    Column(
        "request_id",
        BigInteger,
        ForeignKey("subject_access_requests.id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("content", LargeBinary, nullable=False),  # a ZIP file
    Column("expires", UtcTime, nullable=False, index=True),
)

# Of the worker that works on the requests.
subject_access_lease = lease_table("subject_access_lease", METADATA)
