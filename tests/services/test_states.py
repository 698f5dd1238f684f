"""The life of an experiment, row by row of its table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from optimizely_api.services.experiments.states import (
    Schedule,
    State,
    act,
    campaign_after,
    layer_state,
    read_schedule,
    settle,
    shown,
)
from optimizely_api.services.http.errors import ServiceError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NO_SCHEDULE = Schedule()
STATUSES = ("not_started", "running", "paused", "concluded", "archived")

# Every action in every status: the status afterwards, or None for 409.
TABLE: dict[str, tuple[str | None, ...]] = {
    "start": ("running", "running", "running", "running", None),
    "resume": (None, "running", "running", None, None),
    "pause": (None, "paused", "paused", None, None),
    "publish": ("not_started", "running", "paused", "concluded", None),
    "archive": ("archived", "archived", "archived", "archived", None),
    "unarchive": (None, None, None, None, "paused"),
}
ROWS = [
    (action, before, after)
    for action, afters in TABLE.items()
    for before, after in zip(STATUSES, afters, strict=True)
]


@pytest.mark.parametrize(("action", "before", "after"), ROWS)
def test_each_action_in_each_status(action: str, before: str, after: str | None) -> None:
    state = State(before)
    if after is not None:
        assert act(state, action, NO_SCHEDULE, NOON).status == after
        return
    with pytest.raises(ServiceError, match=f"the experiment is {before}") as caught:
        act(state, action, NO_SCHEDULE, NOON)
    assert caught.value.status == 409


def test_earliest_is_the_first_start_and_latest_the_end_of_the_last_run() -> None:
    first = act(State(), "start", NO_SCHEDULE, NOON)
    assert (first.earliest, first.latest) == (NOON, None)
    stopped = act(first, "pause", NO_SCHEDULE, NOON + HOUR)
    assert (stopped.earliest, stopped.latest) == (NOON, NOON + HOUR)
    again = act(stopped, "resume", NO_SCHEDULE, NOON + 2 * HOUR)
    assert (again.earliest, again.latest) == (NOON, None)
    archived = act(again, "archive", NO_SCHEDULE, NOON + 3 * HOUR)
    assert (archived.earliest, archived.latest) == (NOON, NOON + 3 * HOUR)


def test_pausing_twice_keeps_the_first_end() -> None:
    once = act(State("running", NOON), "pause", NO_SCHEDULE, NOON + HOUR)
    assert act(once, "pause", NO_SCHEDULE, NOON + 2 * HOUR) == once


def test_a_schedule_starts_and_concludes_an_experiment_at_its_own_times() -> None:
    schedule = Schedule(NOON + HOUR, NOON + 3 * HOUR)
    waiting = act(State(), "start", schedule, NOON)
    assert (waiting.status, waiting.awaits_start) == ("not_started", True)
    assert settle(waiting, schedule, NOON + HOUR / 2) == waiting
    running = settle(waiting, schedule, NOON + 2 * HOUR)
    assert running == State("running", earliest=NOON + HOUR, since=NOON + HOUR)
    ended = State("concluded", NOON + HOUR, NOON + 3 * HOUR, since=NOON + HOUR)
    assert settle(running, schedule, NOON + 3 * HOUR) == ended
    assert settle(waiting, schedule, NOON + 9 * HOUR) == ended


@pytest.mark.parametrize("status", ["not_started", "paused", "concluded"])
def test_publish_waits_for_the_start_of_the_schedule_if_that_is_to_come(status: str) -> None:
    schedule = Schedule(NOON + HOUR, None)
    published = act(State(status), "publish", schedule, NOON)
    assert (published.status, published.awaits_start) == (status, True)
    assert settle(published, schedule, NOON + HOUR).status == "running"
    assert act(State(status), "publish", schedule, NOON + HOUR) == State(status)


def test_publish_changes_nothing_of_what_runs() -> None:
    assert act(State("running", NOON), "publish", Schedule(NOON + HOUR), NOON) == State("running", NOON)


def test_start_without_a_start_to_come_ends_the_wait() -> None:
    assert act(State(awaits_start=True), "start", NO_SCHEDULE, NOON).status == "running"


def test_start_runs_a_concluded_experiment_again_when_the_end_of_its_schedule_is_open() -> None:
    ended = State("concluded", NOON, NOON + HOUR)
    again = State("running", earliest=NOON, since=NOON + 2 * HOUR)
    for schedule in (NO_SCHEDULE, Schedule(None, NOON + 3 * HOUR)):
        assert act(ended, "start", schedule, NOON + 2 * HOUR) == again
    later = act(ended, "start", Schedule(NOON + 3 * HOUR), NOON + 2 * HOUR)
    assert (later.status, later.awaits_start, later.latest) == ("concluded", True, NOON + HOUR)
    with pytest.raises(ServiceError, match="the experiment is concluded") as caught:
        act(ended, "start", Schedule(None, NOON + HOUR), NOON + 2 * HOUR)
    assert caught.value.status == 409


def test_a_schedule_alone_starts_nothing() -> None:
    assert settle(State(), Schedule(NOON, None), NOON + HOUR) == State()


def test_archiving_ends_the_wait_for_a_start() -> None:
    schedule = Schedule(NOON + HOUR, None)
    waiting = act(State(), "start", schedule, NOON)
    assert settle(act(waiting, "archive", schedule, NOON), schedule, NOON + 2 * HOUR).status == "archived"


def test_400_for_a_start_after_the_scheduled_end() -> None:
    with pytest.raises(ServiceError, match="/schedule/stop_time: has passed"):
        act(State(), "start", Schedule(None, NOON), NOON)


def test_a_running_experiment_in_a_paused_layer_shows_campaign_paused() -> None:
    running = State("running", NOON)
    assert shown(running, NOON + HOUR) == State("campaign_paused", NOON, NOON + HOUR)
    assert shown(running, None) == running
    assert shown(State("paused", NOON), NOON + HOUR) == State("paused", NOON)


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"start_time": "2026-03-01"}, datetime(2026, 3, 1, tzinfo=UTC)),
        ({"start_time": "2026-03-01T12"}, NOON),
        ({"start_time": "2026-03-01T12:30:00.000Z", "time_zone": "Asia/Tokyo"}, NOON + HOUR / 2),
        ({"start_time": "2026-03-01T13:00", "time_zone": "Europe/Berlin"}, NOON),
        (
            {"start_time": "2026-07-01T14:00:00", "time_zone": "Europe/Berlin"},
            datetime(2026, 7, 1, 12, tzinfo=UTC),
        ),
    ],
)
def test_schedules_are_read_in_their_time_zone(given: dict[str, str], start: datetime) -> None:
    assert read_schedule(given).start == start


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"time_zone": "Mars/Olympus"}, "/schedule/time_zone"),
        ({"time_zone": "Europe"}, "/schedule/time_zone"),
        ({"start_time": "2026-02-30"}, "/schedule/start_time"),
        ({"start_time": "2026-03-02", "stop_time": "2026-03-01"}, "/schedule/stop_time"),
    ],
)
def test_400_for_a_schedule_that_cannot_be(given: dict[str, str], pointer: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_schedule(given)
    assert (caught.value.status, caught.value.message.partition(":")[0]) == (400, pointer)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "not_started"),
        (["not_started"], "not_started"),
        (["running"], "running"),
        (["paused"], "paused"),
        (["archived"], "archived"),
    ],
)
def test_the_layer_of_a_lone_experiment_has_its_status(statuses: list[str], expected: str) -> None:
    assert layer_state([State(status) for status in statuses]).status == expected


@pytest.mark.parametrize("action", ["resume", "pause", "unarchive"])
def test_409_for_an_action_that_a_campaign_not_started_does_not_allow(action: str) -> None:
    with pytest.raises(ServiceError) as caught:
        campaign_after(action, "not_started")
    assert caught.value.status == 409


def test_a_layers_times_span_those_of_its_experiments() -> None:
    ended = State("paused", NOON, NOON + HOUR)
    later = State("concluded", NOON + HOUR, NOON + 2 * HOUR)
    assert layer_state([later, ended]) == State("paused", NOON, NOON + 2 * HOUR)
    running = State("running", NOON + HOUR)
    assert layer_state([ended, running]) == State("running", NOON)
