"""The operations of the results service."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.conditional import is_known, not_modified
from optimizely_api.services.http.errors import bad_request, error_response
from optimizely_api.services.http.json_body import parse_json, read_object
from optimizely_api.services.http.log import REQUEST_ID
from optimizely_api.services.http.query import path_id
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.results.ingest.batches import Batch, MalformedBatch, parse_batch
from optimizely_api.services.results.ingest.dropped import log_dropped
from optimizely_api.services.results.ingest.group_commit import GroupCommit, NotStored
from optimizely_api.services.results.numbers import without_noise
from optimizely_api.services.results.query.aggregation import measure
from optimizely_api.services.results.query.impressions import count, read_impressions_question
from optimizely_api.services.results.query.mismatches import HEADER, MismatchLog, sample_ratio_p_value
from optimizely_api.services.results.query.points import choose_points
from optimizely_api.services.results.query.questions import Question, read_question
from optimizely_api.services.results.query.response import compose_response
from optimizely_api.services.results.query.timeseries import measure_points
from optimizely_api.services.results.query.timeseries_response import compose_timeseries
from optimizely_api.services.results.statistics.sample_ratio import ALARM
from optimizely_api.services.results.versions import data_version, results_end, results_tag

EVENTS_PATH = "/v1/events"
GROUP_COMMIT = web.AppKey("group_commit", GroupCommit)
MISMATCHES = web.AppKey("mismatches", MismatchLog)
PARSED_IN_THREAD_BYTES = 64 * 1024  # parsing a longer body would block the event loop for milliseconds

ROUTES = web.RouteTableDef()


@ROUTES.post(EVENTS_PATH)
async def receive_events(request: web.Request) -> web.Response:
    """Store a batch of the SDKs, whatever its Content-Type; 204 when it is durable.

    400 for a body that is not a batch; 503 when the batch cannot be stored soon. (If it was stored after all, its
    events still count once when it is sent again.) Unusable parts of a batch are left out and counted in the log.
    """
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
        return error_response(503, "unavailable", str(exc), {"Retry-After": "1"})
    return web.Response(status=204)


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
async def query_results(request: web.Request) -> web.Response:
    """Reach, metrics and statistics of an experiment; 204 when the interval and the segment contain no visitor.

    304, without computing anything, if the client has the current response. `X-Sample-Ratio-Mismatch` has the p-value
    when the visitors' split over the variations contradicts the epochs' weights.
    """
    body = await request.read()
    question = _read_question(request, body)
    if question is None:
        return web.Response(status=204)
    async with request.app[DATABASE].snapshot() as connection:
        version = await connection.run_sync(data_version, question.experiment_id)
        tag = results_tag(question, body, version)
        if is_known(request, tag):
            return not_modified(tag)
        measurement = await connection.run_sync(measure, question)
        ratio = await connection.run_sync(sample_ratio_p_value, question)
    request.app[MISMATCHES].note(question.experiment_id, ratio)
    response_body = compose_response(question, measurement, results_end(question, version))
    if response_body is None:
        return web.Response(status=204)
    is_settled = not question.interval.will_contain(measurement.last_activity)
    headers = {"ETag": tag} if is_settled else {}
    if ratio <= ALARM:
        headers[HEADER] = f"{ratio:.3g}"
        # Also in the body: the gateway caches only bodies, and makes the header from this key.
        response_body["sample_ratio_p_value"] = ratio
    return JSONResponse(response_body, headers=headers)


def _read_question(request: web.Request, body: bytes) -> Question | None:
    """The question; None about an experiment without variations, which has no visitors."""
    experiment_id, content = path_id(request, "experiment_id"), parse_json(body)
    if isinstance(content, dict) and content.get("variations") == []:
        return None
    return read_question(experiment_id, content)


@ROUTES.post("/results/{experiment_id}/timeseries")
async def query_timeseries(request: web.Request) -> web.Response:
    """Metrics and statistics at many times of the interval, each over everything up to then; 204 and 304 as above."""
    body = await request.read()
    question = _read_question(request, body)
    if question is None:
        return web.Response(status=204)
    async with request.app[DATABASE].snapshot() as connection:
        version = await connection.run_sync(data_version, question.experiment_id)
        tag = results_tag(question, body, version)
        if is_known(request, tag):
            return not_modified(tag)
        end = results_end(question, version)
        measurement = await connection.run_sync(measure, question, every_day=True)
        start = question.interval.start
        points = choose_points(question, measurement.first_entered or 0 if start is None else start, end)
        measured = await connection.run_sync(measure_points, question, measurement, points)
    # In a thread: hundreds of points of many metrics would hold the event loop.
    response_body = await asyncio.to_thread(compose_timeseries, question, measurement, points, measured, end)
    if response_body is None:
        return web.Response(status=204)
    is_settled = not question.interval.will_contain(measurement.last_activity)
    return JSONResponse(response_body, headers={"ETag": tag} if is_settled else {})


@ROUTES.post("/impressions")
async def answer_impressions(request: web.Request) -> web.Response:
    """How many impressions each of the body's experiments had between its two days; those without are left out."""
    question = read_impressions_question(await read_object(request))
    async with request.app[DATABASE].snapshot() as connection:
        counts = await connection.run_sync(count, question)
    days = {"first_day": question.first_day.isoformat(), "last_day": question.last_day.isoformat()}
    return JSONResponse({**days, "items": counts})
