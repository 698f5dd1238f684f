"""Measurements with round figures, and the report that follows from them."""

from datetime import UTC, datetime
from typing import Any

from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import TIMEOUT, LoadResult, Slice, Tally
from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report import report
from optimizely_api.comparison.report.arithmetic import NO_RESPONSE, measurement
from optimizely_api.comparison.rig.bench import as_json
from optimizely_api.comparison.rig.modes import MODES

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


def modes() -> dict[str, Any]:
    """multiprocessing carries 10/s, threads 200/s, asyncio 400/s; the first loses a quarter of the growing load."""
    outcomes: dict[str, Any] = {}
    for name, highest, late in (("multiprocessing", 10.0, 50), ("threads", 200.0, 0), ("asyncio", 400.0, 0)):
        outcomes[name] = {
            "title": MODES[name].title,
            "idle": {"processes": 3, "memory_mb": 80.0},
            "one": {
                "requests": 3,
                "median_ms": 560.0,
                "shortest_ms": 555.0,
                "longest_ms": 570.0,
                "least_possible_ms": 550.0,
            },
            "cpu": {"answers_per_second": 90.0},
            "search": {"highest_rate": highest, "reached_limit": False, "trials": [], "at_highest": None},
            "ramp": measured(tally(50), tally(100, late) if late else tally(150)),
            "slow": measured(tally(10), tally(10, latency_ms=2000), rate=10.0),
            "watchdog": {"stalls": 0, "longest_seconds": None, "first_warning": []},
        }
    return outcomes


def known_report(**changes: Any) -> report.Report:
    options = Options(balancer=False)
    return {
        **report.document(options, modes(), datetime(2026, 1, 5, 9, 30, tzinfo=UTC), interrupted=False),
        **changes,
    }


__all__ = ["NO_RESPONSE", "known_report", "load", "measured", "modes", "tally"]
