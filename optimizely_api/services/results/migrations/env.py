"""Alembic's entry: runs the revisions on the connection that `migrate` has opened."""

from optimizely_api.services.database import run_migration_environment
from optimizely_api.services.results.tables import METADATA

run_migration_environment(METADATA)
