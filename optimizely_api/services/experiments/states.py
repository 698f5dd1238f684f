"""The life of an experiment and of its layer, as pure functions of states, actions and the clock.

    not_started --start--> running --pause--> paused --start, resume--> running
                           running --(schedule's stop_time)--> concluded
                           concluded --start, when the schedule has a new end or none--> running
    any --archive--> archived --unarchive--> paused

`publish` changes no status; with a schedule whose start is still to come the experiment waits for it, as after `start`.
`campaign_paused` is a running experiment in a paused layer. It is never stored, so that
each experiment has its own status again when the layer is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from optimizely_api.services.http.errors import bad_request, conflict
from optimizely_api.services.schema import field_error

# (action, status) -> the status afterwards. All other pairs are a conflict.
TRANSITIONS: dict[tuple[str, str], str] = {
    ("start", "not_started"): "running",
    ("start", "paused"): "running",
    ("start", "running"): "running",
    ("start", "concluded"): "running",
    ("resume", "paused"): "running",
    ("resume", "running"): "running",
    ("pause", "running"): "paused",
    ("pause", "paused"): "paused",
    ("publish", "not_started"): "not_started",
    ("publish", "running"): "running",
    ("publish", "paused"): "paused",
    ("publish", "concluded"): "concluded",
    ("archive", "not_started"): "archived",
    ("archive", "running"): "archived",
    ("archive", "paused"): "archived",
    ("archive", "concluded"): "archived",
    ("unarchive", "archived"): "paused",
}
UPDATE_ACTIONS = ("publish", "start", "pause", "resume", "unarchive")
CREATE_ACTIONS = ("publish", "start", "pause")
LAYER_CREATE_ACTIONS = ("publish", "start")


@dataclass(frozen=True)
class Schedule:
    """The times at which an experiment starts and stops by itself, in UTC."""

    start: datetime | None = None
    stop: datetime | None = None


@dataclass(frozen=True)
class State:
    """The state of an experiment.

    `earliest` is its first start, `since` its last one, `latest` the end of its last run (None while it runs). With
    `awaits_start` it has been started, and waits for the start of its schedule.
    """

    status: str = "not_started"
    earliest: datetime | None = None
    latest: datetime | None = None
    awaits_start: bool = False
    since: datetime | None = None


def read_schedule(given: dict[str, Any] | None) -> Schedule:
    """Parse the contract's Schedule; 400 for an unknown zone, an impossible day, a wrong order."""
    given = given or {}
    zone = _zone(given.get("time_zone", "UTC"))
    start, stop = (_moment(given.get(name), name, zone) for name in ("start_time", "stop_time"))
    if start and stop and stop <= start:
        raise field_error("/schedule/stop_time", "must be later than start_time")
    return Schedule(start, stop)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    if name != "UTC" and name not in _zone_names():
        raise field_error("/schedule/time_zone", "no such time zone")
    return ZoneInfo(name)


def _moment(text: str | None, name: str, zone: ZoneInfo) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise field_error(f"/schedule/{name}", "no such day or hour") from exc


def settle(state: State, schedule: Schedule, now: datetime) -> State:
    """The state after the effects of the schedule until `now`."""
    if state.awaits_start and schedule.start is not None and schedule.start <= now:
        state = _running(state, schedule.start)
    if state.status == "running" and schedule.stop is not None and schedule.stop <= now:
        return replace(state, status="concluded", latest=schedule.stop)
    return state


def act(state: State, action: str, schedule: Schedule, at: datetime, where: str = "") -> State:
    """The state after an action at `at`; 409 when the present state does not allow the action."""
    after = TRANSITIONS.get((action, state.status))
    is_over = action == "start" and state.status == "concluded" and _is_over(schedule, at)
    if after is None or is_over:
        raise conflict(f"action {action} is not possible: the experiment is {state.status}{where}")
    if action == "publish":
        waits = state.status != "running" and _is_ahead(schedule, at)
        return replace(state, awaits_start=True) if waits else state
    if after == "running":
        return _start(state, schedule, at)
    latest = at if state.status == "running" else state.latest
    return replace(state, status=after, latest=latest, awaits_start=False)


def _start(state: State, schedule: Schedule, at: datetime) -> State:
    if state.status == "running":
        return state
    if _is_over(schedule, at):
        raise field_error("/schedule/stop_time", "has passed: the experiment cannot start")
    return replace(state, awaits_start=True) if _is_ahead(schedule, at) else _running(state, at)


def _is_ahead(schedule: Schedule, at: datetime) -> bool:
    return schedule.start is not None and schedule.start > at


def _is_over(schedule: Schedule, at: datetime) -> bool:
    return schedule.stop is not None and schedule.stop <= at


def await_again(state: State, schedule: Schedule, at: datetime) -> State:
    """A state that comes back from the archive and awaits its schedule; a start that fell due meanwhile is at `at`."""
    return state if _is_over(schedule, at) else _start(state, schedule, at)


def _running(state: State, at: datetime) -> State:
    return State("running", earliest=state.earliest or at, since=at)


def shown(state: State, layer_paused: datetime | None) -> State:
    """The state as the API shows it: running in a paused layer is `campaign_paused`."""
    if state.status == "running" and layer_paused is not None:
        started = state.earliest or layer_paused
        return replace(state, status="campaign_paused", latest=max(layer_paused, started))
    return state


def campaign_after(action: str, status: str) -> str:
    """The status of a campaign for personalization after an action; 409 when the present one does not allow it."""
    after = TRANSITIONS.get((action, status))
    if after is None:
        raise conflict(f"action {action} is not possible: the campaign is {status}")
    return after


def layer_state(states: list[State]) -> State:
    """The state of the layer of a lone experiment, from that of the experiment."""
    earliest = min((state.earliest for state in states if state.earliest), default=None)
    status = _layer_status([state.status for state in states], earliest)
    latest = max((state.latest for state in states if state.latest), default=None)
    return State(status, earliest, None if status == "running" else latest)


def _layer_status(statuses: list[str], earliest: datetime | None) -> str:
    if set(statuses) == {"archived"}:
        return "archived"
    if "running" in statuses:
        return "running"
    stopped = earliest is not None or "paused" in statuses
    return "paused" if stopped else "not_started"


def read_action(value: str | None, allowed: tuple[str, ...]) -> str | None:
    """The query's `action`; 400 unless it is one of those allowed."""
    if not value:
        return None
    if value not in allowed:
        raise bad_request(f"action must be one of {', '.join(allowed)}, not {value[:40]!r}")
    return value
