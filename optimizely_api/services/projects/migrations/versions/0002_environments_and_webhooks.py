"""Environments, also those of the projects that are there already, and webhooks."""

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

from optimizely_api.services.entities.tables import create_entity_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEXT_IDS = sa.table("next_ids", sa.column("name", sa.String), sa.column("next_id", sa.BigInteger))
_PROJECTS = sa.table(
    "projects",
    sa.column("id", sa.BigInteger),
    sa.column("account_id", sa.BigInteger),
    sa.column("platform", sa.String),
    sa.column("created", sa.DateTime(timezone=True)),
)
_ENVIRONMENTS = sa.table(
    "environments",
    *(sa.column(name, sa.BigInteger) for name in ("id", "account_id", "project_id")),
    *(sa.column(name, sa.Text) for name in ("key", "name")),
    sa.column("archived", sa.Boolean),
    sa.column("document", sa.JSON),
    *(sa.column(name, sa.DateTime(timezone=True)) for name in ("created", "last_modified")),
)


def upgrade() -> None:
    """Create the tables, and the environments that each project would have been created with."""
    create_entity_table(op, "environments")
    create_entity_table(op, "webhooks")
    connection = op.get_bind()
    query = sa.select(_PROJECTS).order_by(_PROJECTS.c.id)
    for project in connection.execute(query).all():
        _create(connection, project, "production", priority=1)
        if project.platform != "web":
            _create(connection, project, "development", priority=2)


def _create(connection: sa.Connection, project: sa.Row[Any], key: str, priority: int) -> None:
    environment_id, datafile_id = _new_id(connection), _new_id(connection)
    is_primary = key == "production"
    datafile = {
        "id": datafile_id,
        "sdk_key": secrets.token_urlsafe(16),
        "revision": 1,
        "other_urls": [],
        "latest_file_size": 0,
    }
    values = {
        "id": environment_id,
        "account_id": project.account_id,
        "project_id": project.id,
        "key": key,
        "name": key.capitalize(),
        "archived": False,
        "document": {
            "description": "",
            "is_primary": is_primary,
            "has_restricted_permissions": is_primary,
            "priority": priority,
            "datafile": datafile,
        },
        "created": project.created,
        "last_modified": project.created,
    }
    connection.execute(sa.insert(_ENVIRONMENTS).values(**values))


def _new_id(connection: sa.Connection) -> int:
    new_id: int = connection.execute(sa.select(_NEXT_IDS.c.next_id)).scalar_one()
    connection.execute(sa.update(_NEXT_IDS).values(next_id=new_id + 1))
    return new_id


def downgrade() -> None:
    """Drop the tables."""
    for table in ("webhooks", "environments"):
        op.drop_table(table)
