"""The two operations of the results service."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from optimizely_api.services.http import (
    DATABASE,
    REQUEST_ID,
    JSONResponse,
    bad_request,
    error_response,
    path_id,
    read_json,
)
from optimizely_api.services.results.aggregation import Measurement, measure
from optimizely_api.services.results.answers import compose_answer
from optimizely_api.services.results.batches import Batch, MalformedBatchError, parse_batch
from optimizely_api.services.results.group_commit import GroupCommit, NotStoredError
from optimizely_api.services.results.questions import Question, read_question

GROUP_COMMIT = web.AppKey("group_commit", GroupCommit)
PARSED_IN_THREAD_BYTES = 64 * 1024  # parsing more than this would hold the event loop for milliseconds

ROUTES = web.RouteTableDef()

log = logging.getLogger("optimizely_api.services.results")


@ROUTES.post("/v1/events")
async def receive_events(request: web.Request) -> web.Response:
    """Take a batch of the SDKs, whatever its Content-Type; 204 when it is durable.

    400 for what is no batch at all; 503 when it cannot be stored soon (should it have been stored all the
    same, it counts once when sent again). Unusable parts of a batch are left out, counted in the log.
    """
    body = await request.read()
    try:
        if len(body) > PARSED_IN_THREAD_BYTES:
            batch = await asyncio.to_thread(parse_batch, body)
        else:
            batch = parse_batch(body)
    except MalformedBatchError as exc:
        raise bad_request(str(exc)) from exc
    if batch.dropped:
        _log_dropped(request, batch)
    try:
        await request.app[GROUP_COMMIT].store(batch)
    except NotStoredError as exc:
        return error_response(503, "unavailable", str(exc), {"Retry-After": "1"})
    return web.Response(status=204)


def _log_dropped(request: web.Request, batch: Batch) -> None:
    reasons = dict(batch.dropped)
    log.warning(
        "left out %d parts of a batch: %s",
        batch.dropped.total(),
        ", ".join(f"{reason} ({count})" for reason, count in reasons.items()),
        extra={
            "fields": {
                "request_id": request[REQUEST_ID],
                "account_id": batch.account_id,
                "dropped": batch.dropped.total(),
                "reasons": reasons,
                "kept_events": len(batch.events),
            }
        },
    )


@ROUTES.post("/results/{experiment_id}")
async def answer_results(request: web.Request) -> web.Response:
    """Reach, metrics and statistics of an experiment; 204 when nobody lies in the interval and segment."""
    question = read_question(path_id(request, "experiment_id"), await read_json(request))
    answer = compose_answer(question, await _measure(request, question))
    return web.Response(status=204) if answer is None else JSONResponse(answer)


async def _measure(request: web.Request, question: Question) -> Measurement:
    async with request.app[DATABASE].snapshot() as connection:
        return await connection.run_sync(measure, question)
