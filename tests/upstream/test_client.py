"""The asyncio client of the services: time limits, failures and what they are called, cancellation."""

import asyncio
import gc
import re
import time

import pytest

from optimizely_api.contract import load
from optimizely_api.gateway.upstreams import shape_checks as compiled_shapes
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import open_saving_client
from optimizely_api.upstream.client import Limits, Scope, Upstream, open_client
from optimizely_api.upstream.errors import (
    BadUpstreamAnswer,
    CallRefused,
    EntityNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.support import samples
from tests.upstream.scripted_service import SAVES_NOTHING

GET_EXPERIMENT = calls.get_experiment(samples.EXPERIMENT)
GET_PROJECT = calls.get_project(samples.PROJECT)


@pytest.fixture(scope="module")
def shape_checks():
    return compiled_shapes(load())


@pytest.fixture(params=[None, SAVES_NOTHING], ids=["plain", "saving"])
async def client(services, shape_checks, request):
    upstreams = {
        name: Upstream(url=f"http://127.0.0.1:{port}", timeout_seconds=0.4, key=samples.SERVICES_KEY)
        for name, port in services.ports.items()
    }
    limits = Limits(connections=20, connect_timeout_seconds=0.3, answer_bytes=100_000)
    opening = (
        open_saving_client(upstreams, limits, shape_checks, request.param)
        if request.param
        else open_client(upstreams, limits, shape_checks)
    )
    async with opening as opened:
        yield opened


@pytest.fixture
def scope():
    return Scope("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + 5)


async def test_an_answer_is_its_json_value(client, scope):
    assert await client.fetch(GET_EXPERIMENT, scope) == samples.experiment()


async def test_the_request_id_travels_to_the_service(client, scope, services):
    await client.fetch(GET_EXPERIMENT, scope)
    assert services.seen[-1].headers["X-Request-Id"].startswith(f"{scope.request_id}.")


async def test_durations_are_noted_per_service(client, scope, services):
    services.manners["projects"].delay_seconds = 0.05
    await client.fetch_all([GET_EXPERIMENT, GET_PROJECT], scope)
    assert set(scope.durations_ms) == {"experiments", "projects"}
    assert scope.durations_ms["projects"][0] >= 50


async def test_a_late_service_is_a_timeout_within_its_limit(client, scope, services):
    services.manners["experiments"].hang = True
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout, match=r"experiments service did not answer within 0\.4 seconds"):
        await client.fetch(GET_EXPERIMENT, scope)
    assert time.monotonic() - started > 0.35


async def test_a_body_that_trickles_in_is_a_timeout_too(client, scope, services):
    services.manners["experiments"].trickle = True
    with pytest.raises(UpstreamTimeout):  # the body would go on for ever
        await client.fetch(GET_EXPERIMENT, scope)


async def test_the_deadline_of_the_request_cuts_the_limit_short(client, services):
    services.manners["experiments"].hang = True
    with pytest.raises(UpstreamTimeout) as caught:
        await client.fetch(GET_EXPERIMENT, Scope("id", time.monotonic() + 0.1))
    seconds = float(re.search(r"within ([\d.e-]+) seconds", str(caught.value))[1])
    assert seconds <= 0.1  # of 0.4


async def test_after_the_deadline_nothing_is_sent(client, services):
    with pytest.raises(UpstreamTimeout):
        await client.fetch(GET_EXPERIMENT, Scope("id", time.monotonic() - 1))
    assert services.calls() == []


async def test_a_refused_connection_is_unavailable(client, scope, services):
    services.close("experiments")
    with pytest.raises(UpstreamUnavailable, match="The experiments service cannot be reached"):
        await client.fetch(GET_EXPERIMENT, scope)


async def test_a_body_that_breaks_off_is_a_bad_answer(client, scope, services):
    services.manners["experiments"].cut_off = True
    with pytest.raises(BadUpstreamAnswer, match="experiments"):
        await client.fetch(GET_EXPERIMENT, scope)


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
async def test_an_answer_off_the_agreement_is_a_bad_answer(client, scope, services, body, reason):
    services.manners["experiments"].body = body
    with pytest.raises(BadUpstreamAnswer, match=reason):
        await client.fetch(GET_EXPERIMENT, scope)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadUpstreamAnswer),
        (404, EntityNotFound),
        (500, BadUpstreamAnswer),
        (302, BadUpstreamAnswer),
        (503, UpstreamUnavailable),
    ],
)
async def test_a_status_means_what_it_says(client, scope, services, status, error):
    services.manners["experiments"].status = status
    with pytest.raises(error):
        await client.fetch(GET_EXPERIMENT, scope)


async def test_the_results_service_may_refuse_in_its_own_words(client, scope, services):
    services.manners["results"].status = 400
    services.manners["results"].body = b'{"code": "bad_request", "message": "end_time is before start_time"}'
    with pytest.raises(CallRefused, match="end_time is before start_time"):
        await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), scope)


async def test_no_data_is_none(client, scope, services):
    services.results.clear()
    assert await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), scope) is None


async def test_values_come_in_the_order_of_the_calls(client, scope, services):
    services.manners["experiments"].delay_seconds = 0.1
    experiment, project = await client.fetch_all([GET_EXPERIMENT, GET_PROJECT], scope)
    assert (experiment["id"], project["id"]) == (samples.EXPERIMENT, samples.PROJECT)


async def test_at_most_so_many_calls_are_under_way(client, scope, services):
    services.manners["projects"].delay_seconds = 0.05
    started = time.monotonic()
    await client.fetch_all([GET_PROJECT] * 6, scope, at_most=2)
    assert time.monotonic() - started >= 0.15


async def test_the_first_failure_cancels_the_other_calls(client, scope, services):
    services.manners["projects"].hang = True
    services.manners["experiments"].delay_seconds = 0.05
    services.experiments.clear()
    with pytest.raises(EntityNotFound, match="There is no experiment 4001"):
        await client.fetch_all([GET_PROJECT, GET_EXPERIMENT], scope)
    hung = next(seen for seen in services.seen if seen.service == "projects")
    assert await asyncio.to_thread(hung.ended.wait, 5)
    assert hung.cancelled


async def test_cancellation_reaches_the_service_and_leaves_no_task(client, scope, services):
    services.manners["projects"].hang = True
    before = len(asyncio.all_tasks())
    work = asyncio.create_task(client.fetch_all([GET_PROJECT] * 3, scope))
    arrived = await asyncio.to_thread(services.wait_for_calls, 3)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert all([await asyncio.to_thread(seen.ended.wait, 5) for seen in arrived])
    assert all(seen.cancelled for seen in arrived)
    gc.collect()
    assert len(asyncio.all_tasks()) == before


async def test_an_idle_connection_that_the_service_closed_is_replaced(client, scope, services):
    await client.fetch(GET_EXPERIMENT, scope)
    services.close("experiments")
    services.open("experiments")
    assert await client.fetch(calls.compute_results(samples.EXPERIMENT, {}), scope)
    assert (await client.fetch(GET_EXPERIMENT, scope))["id"] == samples.EXPERIMENT
