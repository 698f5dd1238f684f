"""The runs of an experiment: periods, each with one split of the traffic, by which results count decisions.

Pure functions. Runs are stored as JSON: `{"start_time", "end_time", "weights"}`, times in ISO 8601, `end_time` null
while the run goes on, weights in basis points by variation id. A pause ends a run, and so does a change of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optimizely_api.services.experiments.states import State
from optimizely_api.services.http.responses import format_time

Weights = Mapping[str, int]
MAX_RUNS = 500  # the limit of the results service
Pause = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class Run:
    """From `start` to `end` (None: still running) these weights split the traffic."""

    start: datetime
    end: datetime | None
    weights: Weights


def weights_of(variations: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The weight of each variation by id; 0 for one that is not active."""
    return {
        str(variation["variation_id"]): variation["weight"] if variation["status"] == "active" else 0
        for variation in variations
    }


def follow(runs: Sequence[Run], state: State, weights: Weights) -> tuple[Run, ...]:
    """The runs for this state: a start adds a run, and only a running experiment has an open one."""
    result = tuple(runs)
    if state.since is not None and (not result or result[-1].start < state.since):
        result = (*result, Run(state.since, None, weights))
    if result and result[-1].end is None and state.status != "running":
        end = max(state.latest or result[-1].start, result[-1].start)
        result = (*result[:-1], replace(result[-1], end=end))
    return result


def reweighted(runs: Sequence[Run], weights: Weights, at: datetime) -> tuple[Run, ...]:
    """The runs after a change of weights at `at`: an open run ends, and one with the new weights begins."""
    if not runs or runs[-1].end is not None or runs[-1].weights == weights:
        return tuple(runs)
    last = runs[-1]
    if at <= last.start:
        return (*runs[:-1], replace(last, weights=weights))
    return (*runs[:-1], replace(last, end=at), Run(at, None, weights))


def without_pauses(runs: Iterable[Run], pauses: Sequence[Pause]) -> list[Run]:
    """The runs without the pauses of their campaign, of which the last may still be open."""
    remaining = list(runs)
    for start, end in pauses:
        remaining = [part for run in remaining for part in _without(run, start, end)]
    return remaining


def _without(run: Run, start: datetime, end: datetime | None) -> list[Run]:
    parts = []
    if run.start < start:
        parts.append(replace(run, end=start if run.end is None else min(run.end, start)))
    if end is not None and (run.end is None or end < run.end):
        parts.append(replace(run, start=max(run.start, end)))
    return parts


def dump(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs as JSON: at most MAX_RUNS, so the oldest are joined into one."""
    latest = tuple(runs)
    if (surplus := len(latest) - MAX_RUNS) > 0:
        latest = (replace(latest[surplus], start=latest[0].start), *latest[surplus + 1 :])
    return [
        {
            "start_time": format_time(run.start),
            "end_time": None if run.end is None else format_time(run.end),
            "weights": dict(run.weights),
        }
        for run in latest
    ]


def load(stored: Iterable[Mapping[str, Any]]) -> tuple[Run, ...]:
    """The runs from their JSON."""
    return tuple(
        Run(_time(run["start_time"]), run["end_time"] and _time(run["end_time"]), run["weights"])
        for run in stored
    )


def load_pauses(stored: Iterable[Sequence[str]], paused: datetime | None) -> list[Pause]:
    """The pauses of a campaign; `paused` is the start of an open one."""
    ended: list[Pause] = [(_time(start), _time(end)) for start, end in stored]
    return ended if paused is None else [*ended, (paused, None)]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
