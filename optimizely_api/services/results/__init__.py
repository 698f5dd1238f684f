"""The results service: stores the SDKs' events and computes experiment results with always-valid statistics.

A visitor's first decision that counts decides the variation. A decision counts if it names a variation that the
experiment has and was made while the experiment ran. A conversion counts if it happened at or after that decision (same
millisecond included). `inference` names the statistical methods and their sources, `tables` the rollups that keep
queries fast, `batches` and `admission` the limits on what is stored.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

from optimizely_api.services.http.addresses import experiments_url
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.results.computations import Computations
from optimizely_api.services.results.handlers import (
    COMPUTATIONS,
    EVENTS_PATH,
    GROUP_COMMIT,
    MISMATCHES,
    ROUTES,
    receive_events,
)
from optimizely_api.services.results.ingest.bots import is_bot
from optimizely_api.services.results.ingest.cross_origin import EVERY_ORIGIN, handle_options
from optimizely_api.services.results.ingest.event_keys import with_event_keys
from optimizely_api.services.results.ingest.group_commit import GroupCommit
from optimizely_api.services.results.query.mismatches import MismatchLog
from optimizely_api.services.results.statistics.smoothing import is_smoothing
from optimizely_api.start_failures import InvalidVariable

MAX_BATCH_BYTES = 3_670_016  # 3.5 MiB, the smallest limit published for the original
MAX_BATCH_BYTES_VARIABLE = "RESULTS_MAX_BATCH_BYTES"


def check_environment() -> None:
    """Raise InvalidVariable when an environment variable of this service has an invalid value."""
    _max_batch_bytes()
    is_smoothing()
    experiments_url()


def create_application(database_url: str) -> web.Application:
    """The service on a migrated database.

    A request body longer than `RESULTS_MAX_BATCH_BYTES` (environment) is a 413. Raises InvalidVariable when that
    variable is not a positive whole number.
    """
    return make_application(
        "results",
        database_url=database_url,
        routes=ROUTES,
        contexts=[with_event_keys, _with_group_commit, _with_computations],
        max_body_bytes=_max_batch_bytes(),
    )


def create_public_application(database_url: str) -> web.Application:
    """The public part, for SDKs: only `POST /v1/events`, without a key and for pages of every origin."""
    return make_application(
        "events",
        database_url=database_url,
        routes=[web.post(EVENTS_PATH, receive_events), web.options(EVENTS_PATH, handle_options)],
        contexts=[_with_group_commit],
        max_body_bytes=_max_batch_bytes(),
        is_public=True,
        response_headers=EVERY_ORIGIN,
    )


async def _with_group_commit(app: web.Application) -> AsyncIterator[None]:
    app[MISMATCHES] = MismatchLog()
    await asyncio.to_thread(
        is_bot, ""
    )  # the first call compiles the list of bots, too slow for the event loop
    async with GroupCommit(app[DATABASE]).running() as app[GROUP_COMMIT]:
        yield


async def _with_computations(app: web.Application) -> AsyncIterator[None]:
    app[COMPUTATIONS] = Computations()
    yield
    await app[COMPUTATIONS].close()


def _max_batch_bytes() -> int:
    value = os.environ.get(MAX_BATCH_BYTES_VARIABLE)
    if not value:
        return MAX_BATCH_BYTES
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise InvalidVariable(f"{MAX_BATCH_BYTES_VARIABLE} must be a positive number of bytes, not {value!r}")
    return int(value)
