"""The scenarios: each measures one mode on a bench and returns its part of the report."""

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from optimizely_api.comparison.report.arithmetic import (
    COMMON_SHARE,
    Measurement,
    RateSearch,
    highest_in_ramp,
    ramp_rates,
)
from optimizely_api.comparison.rig.bench import LOAD_START_SECONDS, Bench, Events, as_json
from optimizely_api.comparison.rig.workloads import CPU_PATH

Outcome = dict[str, Any]
ShowStep = Callable[[str], None]
Scenario = Callable[[Bench, Outcome, ShowStep], Coroutine[Any, Any, Outcome]]

# Starting points of the search. A closer guess shortens it and does not change the result.
GUESSES = {"multiprocessing": 8.0, "threads": 300.0, "asyncio": 800.0, "asyncio-blocked": 400.0}
FEWEST_REQUESTS = 20  # of a trial: fewer have no meaningful p99
LONGEST_TRIAL_FACTOR = 3
# A failed trial is repeated once if its p99 is below NEARLY times the objective and at most NEARLY_SHARE was lost.
NEARLY = 3.0
NEARLY_SHARE = 0.05
CPU_CALLERS_PER_WORKER = 16
WARMING_REQUESTS_PER_WORKER = 2


async def search(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """The highest rate with good responses only and p99 within the objective, confirmed over twice the time."""
    trials: list[Outcome] = []
    # Unknown modes start in the middle.
    searching = RateSearch(GUESSES.get(bench.gateway.mode.name, 20.0), step=bench.options.search_step)
    while (rate := searching.next_rate()) is not None:
        show_step(f"trying {rate:g}/s")
        searching.record(rate, await _holds(bench, rate, 1, trials))
    highest, confirmed = searching.highest, None
    while highest:
        show_step(f"confirming {highest:g}/s")
        confirmed = await _trial(bench, highest, 2, trials)
        if confirmed.meets(bench.options.objective_ms):
            break
        highest = float(f"{highest / bench.options.search_step:.3g}") if highest > 0.5 else 0.0
        confirmed = None
    return {
        "highest_rate": highest,
        "found_by": "search",
        "reached_limit": searching.reached_limit or _generator_was_the_limit(trials, highest),
        "trials": trials,
        "at_highest": as_json(confirmed) if confirmed else None,
    }


async def ramp(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """Offered load that grows by the same factor every second, the same for every mode."""
    options = bench.options
    rates = ramp_rates(options.ramp_from, options.ramp_to, options.ramp_seconds)
    show_step(f"{options.ramp_from:g}/s to {options.ramp_to:g}/s")
    measured = await _fit(bench, lambda: bench.measure([(rate, 1.0) for rate in rates]))
    outcome = as_json(measured)
    outcome["highest_rate"], outcome["reached_limit"] = highest_in_ramp(
        measured.seconds, options.objective_ms
    )
    return outcome


async def slow(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """A steady load during which one of the upstreams is slow for a while."""
    options = bench.options
    rate = common_rate(bench, known)
    show_step(f"{rate:g}/s")

    async def unhealthy(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + options.calm_seconds)
        events.append((time.time(), "slow"))
        with bench.upstreams.slow_results(options.slow_delay_ms):
            await asyncio.sleep(options.slow_seconds)
        events.append((time.time(), "well again"))

    seconds = options.calm_seconds * 2 + options.slow_seconds
    measured = await _fit(bench, lambda: bench.measure([(rate, float(seconds))], during=unhealthy))
    return {**as_json(measured), "rate": rate}


async def restart(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """A steady load during which gunicorn replaces its workers."""
    options = bench.options
    rate = common_rate(bench, known)
    show_step(f"{rate:g}/s")

    async def replace_workers(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + options.restart_seconds / 4)
        events.append((time.time(), "restart"))
        await bench.gateway.replace_workers(rolling=options.restart == "rolling")
        events.append((time.time(), "new workers alone"))

    measured = await _fit(
        bench, lambda: bench.measure([(rate, float(options.restart_seconds))], during=replace_workers)
    )
    return {**as_json(measured), "rate": rate}


async def one(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """One request at a time with one slow upstream on an idle gateway: asyncio has no advantage here."""
    options = bench.options
    least = options.delay_ms + max(options.delay_ms, options.one_delay_ms)
    show_step("one request at a time")
    await asyncio.to_thread(bench.one_after_the_other, WARMING_REQUESTS_PER_WORKER * options.workers)
    if options.upstreams == "stub":
        with bench.upstreams.slow_results(options.one_delay_ms):
            durations = await asyncio.to_thread(bench.one_after_the_other, options.one_requests)
    else:
        durations = await asyncio.to_thread(bench.one_after_the_other, options.one_requests)
    median = statistics.median(durations) * 1000
    return {
        "requests": len(durations),
        "median_ms": round(median, 1),
        "shortest_ms": round(min(durations) * 1000, 1),
        "longest_ms": round(max(durations) * 1000, 1),
        "least_possible_ms": least if options.upstreams == "stub" else None,
    }


async def cpu(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """The highest number of responses per second when each takes a fixed amount of computing."""
    options = bench.options
    callers = CPU_CALLERS_PER_WORKER * options.workers
    show_step(f"{options.cpu_ms:g} ms of computing per request")
    path = f"{CPU_PATH}?iterations={known['iterations']}"
    per_second = await asyncio.to_thread(bench.as_fast_as_it_can, path, callers, options.cpu_seconds)
    return {"answers_per_second": round(per_second, 1), "callers": callers, "cpu_ms": options.cpu_ms}


async def blocking(bench: Bench, known: Outcome, show_step: ShowStep) -> Outcome:
    """A steady load while some calls go to a view that blocks the event loop; only the other requests are measured."""
    options = bench.options
    rate = common_rate(bench, known)
    show_step(f"{rate:g}/s")

    async def call(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + options.calm_seconds)
        events.append((time.time(), "blocking calls"))
        await bench.call_blocking_view(options.slow_seconds)
        events.append((time.time(), "none any more"))

    before = bench.gateway.watchdog()["stalls"]
    # The calls come from another load process, whose start is part of the event.
    seconds = options.calm_seconds * 2 + options.slow_seconds + math.ceil(2 * LOAD_START_SECONDS)
    measured = await _fit(bench, lambda: bench.measure([(rate, float(seconds))], during=call, blocking=False))
    watchdog = bench.gateway.watchdog()
    return {
        **as_json(measured),
        "rate": rate,
        "blocking_ms": options.blocking_ms,
        "blocking_rate": options.blocking_rate,
        "watchdog": {**watchdog, "stalls": watchdog["stalls"] - before},
    }


def common_rate(bench: Bench, known: Outcome) -> float:
    """The rate that all modes get, or a share of the mode's own highest rate if that is lower.

    Without this limit a slow mode would be overloaded from the start, and the scenario's event would not show.
    """
    own = [known[name]["highest_rate"] * COMMON_SHARE for name in ("search", "ramp") if name in known]
    return float(f"{max(1.0, min([bench.options.rate, *own])):.3g}")


async def _fit(bench: Bench, measure: Callable[[], Coroutine[Any, Any, Measurement]]) -> Measurement:
    """Measure, and repeat it once if the generator fell behind; the report leaves out what is still not fit."""
    measured = await measure()
    if not measured.not_fit:
        return measured
    await bench.gateway.settle()
    return await measure()


async def _holds(bench: Bench, rate: float, times: int, trials: list[Outcome]) -> bool:
    measured = await _trial(bench, rate, times, trials)
    if measured.meets(bench.options.objective_ms):
        return True
    if not _nearly(measured, bench.options.objective_ms):
        return False
    return (await _trial(bench, rate, times, trials)).meets(bench.options.objective_ms)


async def _trial(bench: Bench, rate: float, times: int, trials: list[Outcome]) -> Measurement:
    options = bench.options
    least = options.trial_seconds
    seconds = times * min(max(least, FEWEST_REQUESTS / rate), least * LONGEST_TRIAL_FACTOR)
    # A response after twice the objective fails the trial anyway: waiting longer tells nothing more.
    measured = await bench.measure([(rate, seconds)], timeout_seconds=2 * options.objective_ms / 1000)
    trials.append(
        {
            "rate": rate,
            "seconds": seconds,
            "holds": measured.meets(options.objective_ms),
            "offered": measured.offered,
            "good": measured.good,
            "errors": measured.errors,
            "other": measured.other,
            "p50_ms": measured.percentiles_ms["50"],
            "p99_ms": measured.p99_ms,
            "achieved_rate": measured.achieved_rate,
            "not_fit": measured.not_fit,
            "usage": measured.usage,
        }
    )
    if not measured.meets(options.objective_ms):
        await bench.gateway.settle()
    return measured


def _nearly(measured: Measurement, objective_ms: float) -> bool:
    lost = measured.offered - measured.good
    return bool(measured.not_fit) or (
        lost <= NEARLY_SHARE * measured.offered and (measured.p99_ms or 0.0) < NEARLY * objective_ms
    )


def _generator_was_the_limit(trials: list[Outcome], highest: float) -> bool:
    """Whether all trials at higher rates failed because the generator fell behind."""
    above = [trial for trial in trials if trial["rate"] > highest and not trial["holds"]]
    return bool(above) and all(trial["not_fit"] for trial in above)


TITLES = {
    "one": "one request at a time",
    "cpu": "computing",
    "search": "highest rate",
    "ramp": "growing load",
    "slow": "one upstream slow",
    "restart": "restart",
    "blocking": "a view that blocks",
}
SCENARIOS: dict[str, Scenario] = {
    "one": one,
    "cpu": cpu,
    "search": search,
    "ramp": ramp,
    "slow": slow,
    "restart": restart,
    "blocking": blocking,
}


def scenarios_of(blocks_the_loop: bool, asked: tuple[str, ...]) -> list[str]:
    """The scenarios of a mode in their order; the mode with a blocking view has a scenario of its own.

    The ramp comes last because it ends in overload; without `search` it comes first, because other scenarios need the
    mode's highest rate.
    """
    if blocks_the_loop:
        return [name for name in ("search", "ramp") if name in asked] + ["blocking"]
    last = ("search", "slow", "restart", "ramp") if "search" in asked else ("ramp", "slow", "restart")
    return [name for name in ("one", "cpu", *last) if name in asked]
