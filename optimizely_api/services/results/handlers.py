"""The operations of the results service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from optimizely_api.http.preferences import preferred_wait
from optimizely_api.services.http.admission import takes_events
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.conditional import is_known, not_modified
from optimizely_api.services.http.errors import ServiceError, bad_request, error_response
from optimizely_api.services.http.json_body import parse_json, read_object
from optimizely_api.services.http.log import REQUEST_ID
from optimizely_api.services.http.query import path_id, read_text
from optimizely_api.services.http.questions import only_asks
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.results.computations import (
    Computations,
    Computed,
    Pending,
    TooManyComputations,
)
from optimizely_api.services.results.ingest.batches import Batch, MalformedBatch, parse_batch
from optimizely_api.services.results.ingest.dropped import log_dropped
from optimizely_api.services.results.ingest.erasure import erase_visitor
from optimizely_api.services.results.ingest.group_commit import GroupCommit, NotStored, TooManyWaiting
from optimizely_api.services.results.numbers import without_noise
from optimizely_api.services.results.query.aggregation import measure
from optimizely_api.services.results.query.decisions import list_decisions, read_decisions_question
from optimizely_api.services.results.query.impressions import count, read_impressions_question
from optimizely_api.services.results.query.measurement import Measurement
from optimizely_api.services.results.query.mismatches import HEADER, MismatchLog, sample_ratio_p_value
from optimizely_api.services.results.query.points import choose_points
from optimizely_api.services.results.query.questions import Question, read_question
from optimizely_api.services.results.query.response import compose_response
from optimizely_api.services.results.query.timeseries import measure_points
from optimizely_api.services.results.query.timeseries_response import compose_timeseries
from optimizely_api.services.results.query.visitor_data import visitor_data
from optimizely_api.services.results.statistics.sample_ratio import ALARM
from optimizely_api.services.results.versions import data_version, results_end, results_tag

EVENTS_PATH = "/v1/events"
GROUP_COMMIT = web.AppKey("group_commit", GroupCommit)
MISMATCHES = web.AppKey("mismatches", MismatchLog)
COMPUTATIONS = web.AppKey("computations", Computations)
SAMPLE_RATIO = "sample_ratio_p_value"  # in the body, where the sample ratio does not fit the weights
PARSED_IN_THREAD_BYTES = 64 * 1024  # parsing a longer body would block the event loop for milliseconds

ROUTES = web.RouteTableDef()


@ROUTES.post(EVENTS_PATH)
@takes_events
async def receive_events(request: web.Request) -> web.Response:
    """Store a batch of the SDKs, whatever its Content-Type; 204 when it is durable.

    400 for a body that is not a batch; 503 when the batch cannot be stored soon. (If it was stored after all, its
    events still count once when it is sent again.) Unusable parts of a batch are left out and counted in the log.
    """
    try:
        request.app[GROUP_COMMIT].check_room()
    except TooManyWaiting as exc:
        return _not_stored(exc)
    body = await request.read()
    agent = request.headers.get("User-Agent", "")
    try:
        if len(body) > PARSED_IN_THREAD_BYTES:
            batch = await asyncio.to_thread(parse_batch, body, user_agent=agent)
        else:
            batch = parse_batch(body, user_agent=agent)
    except MalformedBatch as exc:
        raise bad_request(str(exc)) from exc
    if batch.dropped:
        _log_unusable(request, batch)
    try:
        await request.app[GROUP_COMMIT].store(batch)
    except NotStored as exc:
        return _not_stored(exc)
    return web.Response(status=204)


def _not_stored(error: NotStored) -> web.Response:
    return error_response(503, "unavailable", str(error), {"Retry-After": str(error.retry_after_seconds)})


def _log_unusable(request: web.Request, batch: Batch) -> None:
    log_dropped(
        "a batch",
        batch.dropped,
        {
            "request_id": request[REQUEST_ID],
            "account_id": batch.account_id,
            "kept_events": len(batch.events),
            "kept_revenue": sum(event.revenue or 0 for event in batch.events),
            "kept_value": without_noise(math.fsum(event.value or 0 for event in batch.events)),
        },
    )


@ROUTES.post("/results/{experiment_id}")
@only_asks
async def query_results(request: web.Request) -> web.Response:
    """Reach, metrics and statistics of an experiment; 204 when the interval and the segment contain no visitor.

    304, without computing anything, if the client has the current response. `X-Sample-Ratio-Mismatch` has the p-value
    when the visitors' split over the variations contradicts the epochs' weights. 202 with `Retry-After` when computing
    takes longer than the client waits (`Prefer: wait=N`); see `computations`.
    """
    return await _answer(request, _compute_results)


@ROUTES.post("/results/{experiment_id}/timeseries")
@only_asks
async def query_timeseries(request: web.Request) -> web.Response:
    """Metrics and statistics at many times of the interval, each over everything up to then; statuses as above."""
    return await _answer(request, _compute_timeseries)


Compute = Callable[[web.Application, Question, bytes], Coroutine[Any, Any, Computed]]


async def _answer(request: web.Request, compute: Compute) -> web.Response:
    body = await request.read()
    experiment_id, content = path_id(request, "experiment_id"), parse_json(body)
    if isinstance(content, dict) and content.get("variations") == []:
        return web.Response(status=204)  # an experiment without variations has no visitors
    question, app = read_question(experiment_id, content), request.app
    async with app[DATABASE].snapshot() as connection:
        version = await connection.run_sync(data_version, experiment_id)
    tag = results_tag(question, body, version)
    if is_known(request, tag):
        return not_modified(tag)
    try:
        computed = await app[COMPUTATIONS].get(
            (compute.__name__, experiment_id),
            body,
            (version, question.interval.five_minutes),
            lambda: compute(app, question, body),
            preferred_wait(request.headers.get("Prefer")),
        )
    except TooManyComputations as exc:
        raise ServiceError(
            503, "unavailable", "too many results are being computed", {"Retry-After": "10"}
        ) from exc
    if isinstance(computed, Pending):
        # Also in the body: the gateway's client reads only bodies.
        seconds = computed.retry_after_seconds
        return JSONResponse(
            {"retry_after_seconds": seconds}, status=202, headers={"Retry-After": str(seconds)}
        )
    return _response(computed, version)


def _response(computed: Computed, version: int) -> web.Response:
    body = computed.body
    if body is None:
        return web.Response(status=204)
    headers = {}
    if computed.version < version:
        body = {
            **body,
            "is_stale": True,
        }  # without a tag: the next response may be fresh with the same figures
    elif computed.tag:
        headers["ETag"] = computed.tag
    if SAMPLE_RATIO in body:
        headers[HEADER] = f"{body[SAMPLE_RATIO]:.3g}"
    return JSONResponse(body, headers=headers)


async def _compute_results(app: web.Application, question: Question, body: bytes) -> Computed:
    async with app[DATABASE].snapshot() as connection:
        version = await connection.run_sync(data_version, question.experiment_id)
        measurement = await connection.run_sync(measure, question)
        ratio = await connection.run_sync(sample_ratio_p_value, question)
    app[MISMATCHES].note(question.experiment_id, ratio)
    response_body = compose_response(question, measurement, results_end(question, version))
    if response_body is not None and ratio <= ALARM:
        # Also in the body: the gateway caches only bodies, and makes the header from this key.
        response_body[SAMPLE_RATIO] = ratio
    return Computed(response_body, version, _tag(question, body, version, measurement))


async def _compute_timeseries(app: web.Application, question: Question, body: bytes) -> Computed:
    async with app[DATABASE].snapshot() as connection:
        version = await connection.run_sync(data_version, question.experiment_id)
        end = results_end(question, version)
        measurement = await connection.run_sync(measure, question, every_day=True)
        start = question.interval.start
        points = choose_points(question, measurement.first_entered or 0 if start is None else start, end)
        measured = await connection.run_sync(measure_points, question, measurement, points)
    # In a thread: hundreds of points of many metrics would hold the event loop.
    response_body = await asyncio.to_thread(compose_timeseries, question, measurement, points, measured, end)
    return Computed(response_body, version, _tag(question, body, version, measurement))


def _tag(question: Question, body: bytes, version: int, measurement: Measurement) -> str | None:
    """The entity tag; None while stored events enter the response by time alone."""
    if question.interval.will_contain(measurement.last_activity):
        return None
    return results_tag(question, body, version)


@ROUTES.post("/decisions")
@only_asks
async def answer_decisions(request: web.Request) -> web.Response:
    """A page of the first decisions about the body's visitor, the newest first, and their number."""
    question = read_decisions_question(await read_object(request))
    async with request.app[DATABASE].snapshot() as connection:
        total, items = await connection.run_sync(list_decisions, question)
    about = {"account_id": question.account_id, "visitor_id": question.visitor_id}
    return JSONResponse({**about, "total": total, "items": items})


@ROUTES.post("/impressions")
@only_asks
async def answer_impressions(request: web.Request) -> web.Response:
    """How many impressions experiments had between the body's two days; those without are left out."""
    question = read_impressions_question(await read_object(request))
    async with request.app[DATABASE].snapshot() as connection:
        counts = await connection.run_sync(count, question)
    days = {"first_day": question.first_day.isoformat(), "last_day": question.last_day.isoformat()}
    return JSONResponse({**days, "after_id": question.after_id, "items": counts})


@ROUTES.get("/visitors")
async def answer_visitor_data(request: web.Request) -> web.Response:
    """All that is stored about the visitor with the query's `key` in the account `account_id`, as lines of JSON."""
    account_id, key = read_text(request, "account_id"), read_text(request, "key")
    async with request.app[DATABASE].snapshot() as connection:
        lines = await connection.run_sync(visitor_data, account_id, key)
    return web.Response(body=lines, content_type="application/x-ndjson")


@ROUTES.delete("/visitors")
async def answer_erase_visitor(request: web.Request) -> web.Response:
    """Erase the visitor with the query's `key` in the account `account_id`; 204, also where there is none."""
    work = partial(erase_visitor, account_id=read_text(request, "account_id"), key=read_text(request, "key"))
    await request.app[DATABASE].write(work, is_short=False)
    return web.Response(status=204)
