"""The results service: takes the SDKs' events, answers experiment results with always-valid statistics.

A visitor belongs to an experiment, and to the variation, of the first decision that counts: one for a variation that
the experiment has, made while it ran. A conversion counts if it happened at or after that decision (same millisecond
included). `inference` names the statistical methods and their sources, `tables` the rollups that keep answers fast,
`batches` and `admission` the limits on what is taken.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from optimizely_api.services.http import DATABASE, make_application
from optimizely_api.services.results.group_commit import GroupCommit
from optimizely_api.services.results.mismatches import MismatchLog
from optimizely_api.services.results.routes import GROUP_COMMIT, MISMATCHES, ROUTES

MAX_BATCH_BYTES = 3_670_016  # 3.5 MiB, the smallest limit published for the original
MAX_BATCH_BYTES_VARIABLE = "RESULTS_MAX_BATCH_BYTES"


def create_application(database_url: str) -> web.Application:
    """The service on a migrated database.

    A body longer than `RESULTS_MAX_BATCH_BYTES` (environment) is a 413. Raises ValueError when that
    variable is no positive whole number.
    """
    return make_application(
        "results",
        database_url=database_url,
        routes=ROUTES,
        contexts=[_with_group_commit],
        max_body_bytes=_max_batch_bytes(os.environ.get(MAX_BATCH_BYTES_VARIABLE)),
    )


async def _with_group_commit(app: web.Application) -> AsyncIterator[None]:
    app[MISMATCHES] = MismatchLog()
    async with GroupCommit(app[DATABASE]).running() as app[GROUP_COMMIT]:
        yield


def _max_batch_bytes(value: str | None) -> int:
    if not value:
        return MAX_BATCH_BYTES
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise ValueError(f"{MAX_BATCH_BYTES_VARIABLE} must be a positive number of bytes, not {value!r}")
    return int(value)
