"""The asyncio client of the services: time limits, failures and their names, cancellation."""

import asyncio
import gc
import re
import time

import pytest

from optimizely_api.contract import load
from optimizely_api.gateway.upstreams import shape_checks as compiled_shapes
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import open_caching_client
from optimizely_api.upstream.client import CallContext, Limits, Upstream, open_client
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    CallRefused,
    EntityNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.support import samples
from tests.upstream.scripted_service import CACHES_NOTHING

GET_EXPERIMENT = calls.get_experiment(samples.EXPERIMENT)
GET_PROJECT = calls.get_project(samples.PROJECT)


@pytest.fixture(scope="module")
def shape_checks():
    return compiled_shapes(load())


@pytest.fixture(params=[None, CACHES_NOTHING], ids=["plain", "caching"])
async def client(services, shape_checks, request):
    upstreams = {
        name: Upstream(url=f"http://127.0.0.1:{port}", timeout_seconds=1.0, key=samples.SERVICES_KEY)
        for name, port in services.ports.items()
    }
    limits = Limits(connections=20, connect_timeout_seconds=0.3, response_bytes=100_000)
    opening = (
        open_caching_client(upstreams, limits, shape_checks, request.param)
        if request.param
        else open_client(upstreams, limits, shape_checks)
    )
    async with opening as opened:
        yield opened


@pytest.fixture
def context():
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + 5)


async def test_a_response_is_its_json_value(client, context):
    assert await client.fetch(GET_EXPERIMENT, context) == samples.experiment()


async def test_the_request_id_travels_to_the_service(client, context, services):
    await client.fetch(GET_EXPERIMENT, context)
    assert services.seen[-1].headers["X-Request-Id"].startswith(f"{context.request_id}.")


async def test_durations_are_noted_per_service(client, context, services):
    services.manners["projects"].delay_seconds = 0.05
    await client.fetch_all([GET_EXPERIMENT, GET_PROJECT], context)
    assert set(context.durations_ms) == {"experiments", "projects"}
    assert context.durations_ms["projects"][0] >= 50


async def test_a_late_service_is_a_timeout_within_its_limit(client, context, services):
    services.manners["experiments"].hang = True
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout, match=r"experiments service did not answer within 1 seconds"):
        await client.fetch(GET_EXPERIMENT, context)
    assert time.monotonic() - started > 0.95


async def test_a_body_that_arrives_too_slowly_is_a_timeout_too(client, context, services):
    services.manners["experiments"].trickle = True
    with pytest.raises(UpstreamTimeout):  # the body would go on for ever
        await client.fetch(GET_EXPERIMENT, context)


async def test_the_deadline_of_the_request_cuts_the_limit_short(client, services):
    services.manners["experiments"].hang = True
    with pytest.raises(UpstreamTimeout) as caught:
        await client.fetch(GET_EXPERIMENT, CallContext("id", time.monotonic() + 0.1))
    seconds = float(re.search(r"within ([\d.e-]+) seconds", str(caught.value))[1])
    assert seconds <= 0.1  # of 1.0


async def test_after_the_deadline_nothing_is_sent(client, services):
    with pytest.raises(UpstreamTimeout):
        await client.fetch(GET_EXPERIMENT, CallContext("id", time.monotonic() - 1))
    assert services.calls() == []


async def test_a_refused_connection_is_unavailable(client, context, services):
    services.close("experiments")
    with pytest.raises(UpstreamUnavailable, match="The experiments service cannot be reached"):
        await client.fetch(GET_EXPERIMENT, context)


async def test_a_body_that_breaks_off_is_a_bad_response(client, context, services):
    services.manners["experiments"].cut_off = True
    with pytest.raises(BadUpstreamResponse, match="experiments"):
        await client.fetch(GET_EXPERIMENT, context)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "its body is not JSON"),
        (b"[]", "is not as agreed"),
        (b'{"id": 4001}', "is not as agreed"),
        (b'{"id": NaN}', "its body is not JSON"),
        (b'"' + b"x" * 200_000 + b'"', "its body is larger than 100000 bytes"),
    ],
    ids=["not json", "a list", "keys missing", "not a number", "too large"],
)
async def test_a_response_off_the_agreement_is_a_bad_response(client, context, services, body, reason):
    services.manners["experiments"].body = body
    with pytest.raises(BadUpstreamResponse, match=reason):
        await client.fetch(GET_EXPERIMENT, context)


TOKEN = {"account_id": 1}
USER = {"id": "u", "email": "a@shop.example", "is_administrator": False, "roles": {"1": "viewer"}}
CLAIM = {"key_sha256": "0" * 64}
ANSWERED = {**CLAIM, "state": "answered", "status": 201, "entity_tag": "", "body": "e30="}
DATAFILE = {"sdk_key": "k", "revision": 1, "content": "{}"}


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("Token", TOKEN),
        ("Token", {**TOKEN, "token_id": 1, "name": "CI", "user": None}),
        ("Token", {**TOKEN, "user": USER}),
        ("Claim", {**CLAIM, "state": "claimed", "operation": "o"}),
        ("Claim", {**CLAIM, "state": "under_way", "retry_after_seconds": 5}),
        ("Claim", {**CLAIM, "state": "of_another_request"}),
        ("Claim", ANSWERED),
        ("BuiltDatafile", {**DATAFILE, "last_modified": "2026-11-01T22:16:32Z"}),
    ],
)
def test_a_response_has_all_that_the_gateway_reads_of_it(shape_checks, shape, value):
    assert shape_checks[shape](value) is None


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("Token", {**TOKEN, "name": None}),
        ("Token", {**TOKEN, "user": {"id": "u"}}),
        ("Token", {**TOKEN, "user": {**USER, "roles": {"1": 4}}}),
        ("Claim", {**CLAIM, "state": "claimed"}),
        ("Claim", {**ANSWERED, "entity_tag": '"a"\r\nX: y'}),
        ("Claim", {**CLAIM, "state": "under_way"}),
        ("Claim", {**CLAIM, "state": "unheard-of"}),
        ("Claim", {**ANSWERED, "body": "e30"}),
        ("Claim", {**ANSWERED, "status": "201"}),
        ("BuiltDatafile", {**DATAFILE, "last_modified": "today"}),
        ("SarExport", {"id": 1, "content": "e30"}),
    ],
    ids=str,
)
def test_a_response_without_what_the_gateway_reads_of_it_is_not_as_agreed(shape_checks, shape, value):
    assert shape_checks[shape](value) is not None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadUpstreamResponse),
        (404, EntityNotFound),
        (500, BadUpstreamResponse),
        (302, BadUpstreamResponse),
        (503, UpstreamUnavailable),
        (504, UpstreamTimeout),
    ],
)
async def test_a_status_means_what_it_says(client, context, services, status, error):
    services.manners["experiments"].status = status
    with pytest.raises(error):
        await client.fetch(GET_EXPERIMENT, context)


async def test_the_message_of_the_results_service_is_passed_on(client, context, services):
    services.manners["results"].status = 400
    services.manners["results"].body = b'{"code": "bad_request", "message": "end_time is before start_time"}'
    with pytest.raises(CallRefused, match="end_time is before start_time"):
        await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), context)


async def test_no_data_is_none(client, context, services):
    services.results.clear()
    assert await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), context) is None


async def test_values_come_in_the_order_of_the_calls(client, context, services):
    services.manners["experiments"].delay_seconds = 0.1
    experiment, project = await client.fetch_all([GET_EXPERIMENT, GET_PROJECT], context)
    assert (experiment["id"], project["id"]) == (samples.EXPERIMENT, samples.PROJECT)


async def test_at_most_limits_the_calls_under_way(client, context, services):
    services.manners["projects"].delay_seconds = 0.05
    started = time.monotonic()
    await client.fetch_all([GET_PROJECT] * 6, context, at_most=2)
    assert time.monotonic() - started >= 0.15


async def test_the_first_failure_cancels_the_other_calls(client, context, services):
    services.manners["projects"].hang = True
    services.manners["experiments"].delay_seconds = 0.05
    services.experiments.clear()
    with pytest.raises(EntityNotFound, match="There is no experiment 4001"):
        await client.fetch_all([GET_PROJECT, GET_EXPERIMENT], context)
    hung = next(seen for seen in services.seen if seen.service == "projects")
    assert await asyncio.to_thread(hung.ended.wait, 5)
    assert hung.cancelled


async def test_cancellation_reaches_the_service_and_leaves_no_task(client, context, services):
    services.manners["projects"].hang = True
    before = len(asyncio.all_tasks())
    work = asyncio.create_task(client.fetch_all([GET_PROJECT] * 3, context))
    arrived = await asyncio.to_thread(services.wait_for_calls, 3)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert all([await asyncio.to_thread(seen.ended.wait, 5) for seen in arrived])
    assert all(seen.cancelled for seen in arrived)
    gc.collect()
    assert len(asyncio.all_tasks()) == before


async def test_an_idle_connection_that_the_service_closed_is_replaced(client, context, services):
    await client.fetch(GET_EXPERIMENT, context)
    services.close("experiments")
    services.open("experiments")
    assert await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), context)
    assert (await client.fetch(GET_EXPERIMENT, context))["id"] == samples.EXPERIMENT
