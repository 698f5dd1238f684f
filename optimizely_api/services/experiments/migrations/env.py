"""What alembic runs; `optimizely_api.services.database.migrate` brings the connection."""

from optimizely_api.services.database import run_migration_environment
from optimizely_api.services.experiments.tables import METADATA

run_migration_environment(METADATA)
