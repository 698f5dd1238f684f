"""Measurements with round figures, and the report that follows from them."""

from datetime import UTC, datetime
from typing import Any

from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import TIMEOUT, LoadResult, Slice, Tally
from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report import report
from optimizely_api.comparison.report.arithmetic import NO_RESPONSE, measurement
from optimizely_api.comparison.report.refusals import why_refused
from optimizely_api.comparison.report.trials import EQUAL, GROWING, OVERLOAD, OWN_SHARE, TRIED
from optimizely_api.comparison.rig.bench import as_json
from optimizely_api.comparison.rig.modes import MODES, description
from optimizely_api.comparison.rig.run import Results

STARTED_AT = 1_000_000.0


def tally(good: int, late: int = 0, latency_ms: float = 100.0, limit_ms: float = 5000.0) -> Tally:
    """So many requests that were answered with 200 after `latency_ms`, and so many that never were."""
    made = Tally(offered=good + late, sent=good + late)
    made.statuses[200] = good
    made.ok.record_us(int(latency_ms * 1000), good)
    if late:
        made.failures[TIMEOUT] = late
        made.other.record_us(int(limit_ms * 1000), late)
    made.lag.record_us(100, good + late)
    return made


def load(*tallies: Tally) -> LoadResult:
    """One tally a second, at the rate that it offers."""
    plan = LoadPlan(url="http://127.0.0.1:1", phases=[(each.offered, 1.0) for each in tallies])
    slices = [
        Slice(float(second), second + 1.0, each.offered, second, each) for second, each in enumerate(tallies)
    ]
    return LoadResult(plan, slices, started_at=STARTED_AT)


def measured(*tallies: Tally, **more: Any) -> dict[str, Any]:
    made = measurement(load(*tallies), None)
    made.usage = {
        "most_processes": 3,
        "most_memory_mb": 100.0,
        "cpu_seconds": {"gateway": 1.0},
        "window_seconds": 2.5,
        "others_share": 0.02,
    }
    made.events = [{"at": 0.5, "what": "slow"}, {"at": 1.5, "what": "well again"}]
    return {**as_json(made), **more}


def trial(
    mode: str, scenario: str, kind: str | None = None, repetition: int = 1, **figures: Any
) -> dict[str, Any]:
    made = {
        "mode": mode,
        "scenario": scenario,
        "repetition": repetition,
        "rate_kind": kind,
        "share": None,
        "rate": None,
        **figures,
    }
    return {**made, "refused": why_refused(made)}


def search(mode: str, repetition: int, held: float) -> dict[str, Any]:
    """A search whose rates are 1.12 times apart."""
    failed = held * 1.12
    return trial(
        mode,
        "search",
        TRIED,
        repetition,
        highest_rate=held,
        lowest_failed=failed,
        reached_limit=False,
        trials=[],
    )


def modes() -> dict[str, Any]:
    return {
        name: {
            **description(MODES[name], workers=2, threads=32),
            "starts": [{"repetition": 1, "seconds": 3.0, "processes": 3, "memory_mb": 80.0}],
            "watchdog": {"stalls": 0, "longest_seconds": None, "commonest_warning": []},
        }
        for name in ("multiprocessing", "threads", "asyncio")
    }


def trials() -> list[dict[str, Any]]:
    """multiprocessing carries 10/s, threads 200/s, asyncio 400/s; the first loses a quarter of the growing load.

    The searches are repeated with the same outcome, all else is measured once.
    """
    made = []
    for name, highest, late in (("multiprocessing", 10.0, 50), ("threads", 200.0, 0), ("asyncio", 400.0, 0)):
        grown = measured(tally(50), tally(100, late) if late else tally(150))
        made += [
            trial(name, "one", durations_ms=[555.0, 560.0, 570.0], least_possible_ms=550.0),
            trial(name, "cpu", answers=180, seconds=2.0, answers_per_second=90.0, callers=32, cpu_ms=20.0),
            search(name, 1, highest),
            search(name, 2, highest),
            trial(name, "steady", EQUAL, **measured(tally(60), tally(60), rate=6.0)),
            trial(name, "steady", OWN_SHARE, **measured(tally(60), tally(60), rate=highest * 0.6, share=0.6)),
            trial(name, "ramp", GROWING, **grown, highest_rate=highest, reached_limit=False),
            trial(name, "slow", OWN_SHARE, **measured(tally(100), tally(100, latency_ms=2000), rate=10.0)),
            trial(
                name,
                "overload",
                OVERLOAD,
                **measured(tally(100, 50), tally(60), rate=highest * 1.5, share=1.5),
                limit_rate=highest,
                overload_seconds=1,
                goodput=[100.0],
                recovery_seconds=0.0,
                recovery_window_seconds=1,
            ),
        ]
    return made


def traces() -> list[dict[str, Any]]:
    call = {"service": "results", "path": "/results/1", "begin": 0.01, "end": 0.06}
    requests = [{"start": 0.0, "end": 0.1, "status": 200, "calls": [call]}]
    return [{"mode": name, "requests": requests} for name in modes()]


def known_report(**changes: Any) -> report.Report:
    """The report of `modes` and `trials`, or of others, with further parts changed."""
    results = Results(changes.pop("modes", modes()), changes.pop("trials", trials()), traces())
    options = Options(balancer=False)
    began = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    return {**report.document(options, results, began, interrupted=False), **changes}


__all__ = [
    "NO_RESPONSE",
    "known_report",
    "load",
    "measured",
    "modes",
    "search",
    "tally",
    "traces",
    "trial",
    "trials",
]
