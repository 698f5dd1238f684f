"""A running results service, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, NewDatabase, Serve
from tests.services.results.sending import EXPERIMENT, batch, question


class Results:
    """A results service and short ways to talk to it."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def send(self, *entries: Any, **more: Any) -> None:
        """Post a batch of visitor entries and insist on 204."""
        status, body = await self.caller.post("/v1/events", batch(*entries, **more))
        assert (status, body) == (204, None)

    async def ask(self, *metrics: dict[str, Any], **more: Any) -> Any:
        """Ask for the experiment's results and insist on 200."""
        status, body = await self.caller.post(f"/results/{EXPERIMENT}", question(*metrics, **more))
        assert status == 200, body
        return body

    async def figures(self, *metrics: dict[str, Any], **more: Any) -> dict[str, tuple[float, int]]:
        """(value, samples) of the first metric by variation; empty when there is no data."""
        status, body = await self.caller.post(f"/results/{EXPERIMENT}", question(*metrics, **more))
        if status == 204:
            return {}
        assert status == 200, body
        return {
            variation: (result["value"], result["samples"])
            for variation, result in body["metrics"][0]["results"].items()
        }


@pytest_asyncio.fixture
async def database_url(new_database: NewDatabase) -> str:
    """The URL of a migrated database of the results service without any data."""
    return await new_database("results")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The database, without a service."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def results(serve: Serve, database_url: str) -> Results:
    """A results service without any data."""
    return Results(await serve("results", database_url))
