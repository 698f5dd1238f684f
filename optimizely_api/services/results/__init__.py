"""The results service: takes the SDKs' events, answers experiment results with always-valid statistics.

A visitor belongs to an experiment, and to the variation, of the first decision that counts: one for a variation that
the experiment has, made while it ran. A conversion counts if it happened at or after that decision (same millisecond
included). `inference` names the statistical methods and their sources, `tables` the rollups that keep answers fast,
`batches` and `admission` the limits on what is taken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.results.handlers import (
    EVENTS_PATH,
    GROUP_COMMIT,
    MISMATCHES,
    ROUTES,
    receive_events,
)
from optimizely_api.services.results.ingest.bots import is_bot
from optimizely_api.services.results.ingest.cross_origin import EVERY_ORIGIN, answer_options
from optimizely_api.services.results.ingest.group_commit import GroupCommit
from optimizely_api.services.results.query.mismatches import MismatchLog
from optimizely_api.services.results.statistics.smoothing import is_smoothing
from optimizely_api.start_failures import InvalidVariable

MAX_BATCH_BYTES = 3_670_016  # 3.5 MiB, the smallest limit published for the original
MAX_BATCH_BYTES_VARIABLE = "RESULTS_MAX_BATCH_BYTES"


def check_environment() -> None:
    """Raise InvalidVariable for a variable of this service that makes no sense."""
    _max_batch_bytes()
    is_smoothing()


def create_application(database_url: str) -> web.Application:
    """The service on a migrated database.

    A body longer than `RESULTS_MAX_BATCH_BYTES` (environment) is a 413. Raises InvalidVariable when that
    variable is no positive whole number.
    """
    return make_application(
        "results",
        database_url=database_url,
        routes=ROUTES,
        contexts=[_with_group_commit],
        max_body_bytes=_max_batch_bytes(),
    )


def create_public_application(database_url: str) -> web.Application:
    """`POST /v1/events` and nothing else, without a key and for pages of every origin: for SDKs."""
    return make_application(
        "events",
        database_url=database_url,
        routes=[web.post(EVENTS_PATH, receive_events), web.options(EVENTS_PATH, answer_options)],
        contexts=[_with_group_commit],
        max_body_bytes=_max_batch_bytes(),
        is_public=True,
        response_headers=EVERY_ORIGIN,
    )


async def _with_group_commit(app: web.Application) -> AsyncIterator[None]:
    app[MISMATCHES] = MismatchLog()
    await asyncio.to_thread(is_bot, "")  # the first time compiles the list
    async with GroupCommit(app[DATABASE]).running() as app[GROUP_COMMIT]:
        yield


def _max_batch_bytes() -> int:
    value = os.environ.get(MAX_BATCH_BYTES_VARIABLE)
    if not value:
        return MAX_BATCH_BYTES
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise InvalidVariable(f"{MAX_BATCH_BYTES_VARIABLE} must be a positive number of bytes, not {value!r}")
    return int(value)
