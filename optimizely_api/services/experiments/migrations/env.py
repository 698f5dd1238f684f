"""The script that alembic runs; `optimizely_api.services.storage.database.migrate` opens the connection."""

from optimizely_api.services.experiments.tables import METADATA
from optimizely_api.services.storage.database import run_migration_environment

run_migration_environment(METADATA)
