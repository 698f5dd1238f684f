"""Entity tags of results: 304 without computing while nothing could have changed, and never after it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from optimizely_api.services.results import create_application, versions
from optimizely_api.services.results import handlers as routes
from optimizely_api.services.results.query import questions
from optimizely_api.services.storage.database import Database
from tests.services.conftest import running
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    TREATMENT,
    attribute,
    conversion,
    impression,
    iso,
    metric,
    question,
)

LATER = NOON + 30 * 24 * HOUR  # by the clock that the tests set
OTHER_EXPERIMENT = EXPERIMENT + 50


class Clock:
    """The clock of the service's questions, in milliseconds."""

    def __init__(self, now: int) -> None:
        self.milliseconds = now

    def now(self, _zone: Any) -> datetime:
        return datetime.fromtimestamp(self.milliseconds / 1000, UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(LATER)
    monkeypatch.setattr(questions, "datetime", clock)
    return clock


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever results are measured."""
    times: list[int] = []
    measure = routes.measure

    def counted(connection: Any, asked: Any) -> Any:
        times.append(asked.experiment_id)
        return measure(connection, asked)

    monkeypatch.setattr(routes, "measure", counted)
    return times


async def ask(results: Results, known: str | None = None, **more: Any) -> tuple[int, str | None, Any]:
    headers = {} if known is None else {"If-None-Match": known}
    url = f"{results.caller.url}/results/{EXPERIMENT}"
    async with results.caller.session.post(url, json=question(**more), headers=headers) as response:
        body = await response.json() if response.status == 200 else await response.read()
        return response.status, response.headers.get("ETag"), body


@pytest_asyncio.fixture
async def tag(results: Results, clock: Clock) -> AsyncIterator[str]:
    """The tag of the results of an experiment with two visitors, one of whom has bought."""
    await results.send(impression("ann", CONTROL), impression("bob", TREATMENT), conversion("ann"))
    status, tag, _ = await ask(results)
    assert status == 200
    assert tag is not None
    yield tag


async def test_304_without_measuring_while_nothing_has_changed(
    results: Results, tag: str, measured: list[int]
) -> None:
    assert await ask(results, tag) == (304, tag, b"")
    assert measured == []


ENTRIES = {
    "a conversion": lambda: conversion("ann"),
    "a conversion that counts for no metric": lambda: conversion("ann", 1),
    "a new visitor": lambda: impression("eve"),
    "an earlier decision": lambda: impression("bob", CONTROL, NOON - SECOND),
    "an attribute": lambda: conversion("ann", 1, attributes=[attribute("plan", "gold")]),
    "an attribute of an impression elsewhere": lambda: impression(
        "ann", experiment=OTHER_EXPERIMENT, attributes=[attribute("plan", "gold")]
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
async def test_200_after_what_could_change_the_results(results: Results, tag: str, entry: str) -> None:
    await results.send(ENTRIES[entry]())
    status, other, _ = await ask(results, tag)
    assert status == 200
    assert other not in (tag, None)


async def test_the_new_answer_holds_the_new_event(results: Results, tag: str) -> None:
    await results.send(conversion("bob"))
    _, _, body = await ask(results, tag)
    assert body["metrics"][0]["results"][str(TREATMENT)]["value"] == 1


async def test_a_conversion_that_was_there_before_its_decision_counts_from_the_decision_on(
    results: Results, tag: str
) -> None:
    await results.send(conversion("late"))
    assert (await ask(results, tag))[0] == 304  # nobody's of this experiment, so far
    await results.send(impression("late", TREATMENT))
    status, _, body = await ask(results, tag)
    assert (status, body["metrics"][0]["results"][str(TREATMENT)]["value"]) == (200, 1)


async def test_an_event_sent_twice_changes_nothing(results: Results, tag: str) -> None:
    entry = conversion("ann")
    await results.send(entry)
    _, tag_after, _ = await ask(results)
    await results.send(entry)
    assert (await ask(results, tag_after))[0] == 304


async def test_another_experiments_events_change_nothing(results: Results, tag: str) -> None:
    await results.send(impression("eve", experiment=OTHER_EXPERIMENT), conversion("eve"))
    assert (await ask(results, tag))[0] == 304


@pytest.mark.parametrize(
    "more",
    [
        {"metrics": [metric("count")]},
        {"baseline_variation_id": str(TREATMENT)},
        {"stats_config": {"confidence_level": 0.95}},
        {"segment": {"browser": "ff"}},
        {"start_time": iso(NOON - HOUR)},
        {"end_time": iso(NOON + HOUR)},
        {"project_id": 1},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_another_question_is_another_answer(results: Results, tag: str, more: dict[str, Any]) -> None:
    assert (await ask(results, tag, **more))[0] != 304


async def test_an_open_interval_is_answered_anew_when_another_five_minutes_begin(
    results: Results, tag: str, clock: Clock
) -> None:
    clock.milliseconds += 5 * MINUTE - 1
    assert (await ask(results, tag))[0] == 304
    clock.milliseconds += 1
    assert (await ask(results, tag))[0] == 200


async def test_a_closed_interval_keeps_its_answer(results: Results, tag: str, clock: Clock) -> None:
    _, closed, _ = await ask(results, end_time=iso(NOON + HOUR))
    clock.milliseconds += 24 * HOUR
    assert (await ask(results, closed, end_time=iso(NOON + HOUR)))[0] == 304


async def test_an_interval_that_closes_by_itself_is_answered_anew(
    results: Results, tag: str, clock: Clock
) -> None:
    end = iso(LATER + 5 * MINUTE)
    _, open_tag, _ = await ask(results, end_time=end)
    clock.milliseconds += 5 * MINUTE
    status, _, closed = await ask(results, open_tag, end_time=end)
    assert (status, closed["end_time"]) == (200, end)


@pytest.mark.parametrize("ahead", ["conversion", "decision"])
async def test_no_tag_while_what_is_dated_ahead_will_come_in_with_time_alone(
    results: Results, clock: Clock, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    # The five minutes of tolerance end a minute before the event's time, and all of it within the same five minutes.
    clock.milliseconds = present = int(time.time() * 1000) // (5 * MINUTE) * 5 * MINUTE
    await results.send(impression("ann", CONTROL, present - HOUR))
    dated = present + 6 * MINUTE
    late = conversion("ann", at=dated) if ahead == "conversion" else impression("bob", TREATMENT, dated)
    await results.send(late)
    status, tag, before = await ask(results)
    assert (status, tag) == (200, None)
    clock.milliseconds = present + MINUTE + 1
    _, tag, after = await ask(results)
    assert tag is not None
    count = "metrics" if ahead == "conversion" else "reach"
    assert before[count] != after[count]


async def test_what_is_dated_ahead_does_not_matter_to_a_closed_interval(
    results: Results, clock: Clock
) -> None:
    clock.milliseconds = present = int(time.time() * 1000)
    await results.send(impression("ann", CONTROL, present - HOUR))
    await results.send(conversion("ann", at=present + 6 * MINUTE))
    assert (await ask(results, end_time=iso(present - 10 * MINUTE)))[1] is not None


async def test_no_data_has_no_tag(results: Results) -> None:
    assert await ask(results) == (204, None, b"")


async def test_two_workers_raise_one_version_without_losing_each_other(results: Results) -> None:

    url = results.caller.database_url
    seen = []
    async with running(create_application(url), url) as other:
        both = (results, Results(other))
        for number in range(10):
            await asyncio.gather(*(one.send(impression(f"{number}{id(one)}")) for one in both))
            seen.append((await ask(results))[1])
    assert len(set(seen)) == 10


@pytest.mark.parametrize("now", [0, 10**18], ids=["the clock went back", "the clock goes on"])
async def test_a_version_only_grows(results: Results, monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    await results.send(impression("ann"))
    database = Database(results.caller.database_url)
    async with database.transaction() as connection:
        before = await connection.run_sync(versions.data_version, EXPERIMENT)
        monkeypatch.setattr(versions, "time", SimpleNamespace(time_ns=lambda: now * 1000))
        await connection.run_sync(versions.raise_versions, {EXPERIMENT})
        after = await connection.run_sync(versions.data_version, EXPERIMENT)
    await database.close()
    assert after > before
