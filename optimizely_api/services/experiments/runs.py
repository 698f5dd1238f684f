"""The times in which an experiment ran, each with one split of its traffic: what results count decisions by.

Pure functions. Runs are stored as JSON: `{"start_time", "end_time", "weights"}`, times in ISO 8601, `end_time` null
while the run goes on, weights in basis points by variation id. A pause ends a run, and so does a change of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments.states import State

Weights = Mapping[str, int]
MAX_RUNS = 500  # what the results service takes
Pause = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class Run:
    """From `start` to `end` (None: it goes on) the traffic was shared out by these weights."""

    start: datetime
    end: datetime | None
    weights: Weights


def weights_of(variations: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The weight of each variation by id; one that is not active gets no traffic."""
    return {
        str(variation["variation_id"]): variation["weight"] if variation["status"] == "active" else 0
        for variation in variations
    }


def follow(runs: Sequence[Run], state: State, weights: Weights) -> tuple[Run, ...]:
    """The runs once the experiment is in this state: a new one where it was started, none open unless it runs."""
    found = tuple(runs)
    if state.since is not None and (not found or found[-1].start < state.since):
        found = (*found, Run(state.since, None, weights))
    if found and found[-1].end is None and state.status != "running":
        end = max(state.latest or found[-1].start, found[-1].start)
        found = (*found[:-1], replace(found[-1], end=end))
    return found


def reweighted(runs: Sequence[Run], weights: Weights, at: datetime) -> tuple[Run, ...]:
    """The runs after the weights changed at `at`: a run under way ends, and one with the new weights begins."""
    if not runs or runs[-1].end is not None or runs[-1].weights == weights:
        return tuple(runs)
    last = runs[-1]
    if at <= last.start:
        return (*runs[:-1], replace(last, weights=weights))
    return (*runs[:-1], replace(last, end=at), Run(at, None, weights))


def without_pauses(runs: Iterable[Run], pauses: Sequence[Pause]) -> list[Run]:
    """The runs without the times in which their campaign was paused; the last pause may go on."""
    left = list(runs)
    for start, end in pauses:
        left = [part for run in left for part in _without(run, start, end)]
    return left


def _without(run: Run, start: datetime, end: datetime | None) -> list[Run]:
    parts = []
    if run.start < start:
        parts.append(replace(run, end=start if run.end is None else min(run.end, start)))
    if end is not None and (run.end is None or end < run.end):
        parts.append(replace(run, start=max(run.start, end)))
    return parts


def dump(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs as they are stored and answered: the latest, as many as can be asked about, and all before as one."""
    found = tuple(runs)
    if (surplus := len(found) - MAX_RUNS) > 0:
        found = (replace(found[surplus], start=found[0].start), *found[surplus + 1 :])
    return [
        {
            "start_time": format_time(run.start),
            "end_time": None if run.end is None else format_time(run.end),
            "weights": dict(run.weights),
        }
        for run in found
    ]


def load(stored: Iterable[Mapping[str, Any]]) -> tuple[Run, ...]:
    """The runs as they were stored."""
    return tuple(
        Run(_time(run["start_time"]), run["end_time"] and _time(run["end_time"]), run["weights"])
        for run in stored
    )


def load_pauses(stored: Iterable[Sequence[str]], paused: datetime | None) -> list[Pause]:
    """A campaign's pauses, `paused` being the beginning of one that goes on."""
    ended: list[Pause] = [(_time(start), _time(end)) for start, end in stored]
    return ended if paused is None else [*ended, (paused, None)]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
