"""Another revision of the results service's database."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from optimizely_api.services.database import Database


async def migrate_to(database_url: str, revision: str) -> None:
    """Bring the database back to a revision, or forth to `head`."""

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", "optimizely_api.services.results:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        (command.downgrade if revision != "head" else command.upgrade)(config, revision)

    database = Database(database_url)
    try:
        async with database.transaction() as connection:
            await connection.run_sync(run)
    finally:
        await database.close()
