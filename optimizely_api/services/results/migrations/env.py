"""Alembic's entry: runs the revisions on the connection that `migrate` has opened."""

from optimizely_api.services.results.tables import METADATA
from optimizely_api.services.storage.database import run_migration_environment

run_migration_environment(METADATA)
