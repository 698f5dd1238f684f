"""Datafiles follow schedules in the background, where only the log says what fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from aiohttp import web

from optimizely_api.services.experiments.datafiles.upkeep import with_datafiles
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.storage.database import Database
from tests.support.ports import free_port

SOON_SECONDS = 20


async def test_a_database_that_is_away_is_a_line_of_the_log_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    application = web.Application()
    application[DATABASE] = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    async with (
        contextlib.asynccontextmanager(with_datafiles)(application),
        asyncio.timeout(SOON_SECONDS),
    ):
        while not caplog.records:
            await asyncio.sleep(0.01)
    record = caplog.records[0]
    assert record.message.startswith("datafiles do not follow the schedules of experiments: ")
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
