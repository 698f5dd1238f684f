"""The scenarios: each measures one mode on a bench and returns its trials, as they are in the report."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.arithmetic import (
    Measurement,
    RateSearch,
    Second,
    highest_in_ramp,
    is_good,
    ramp_rates,
    rounded_rate,
)
from optimizely_api.comparison.report.refusals import lowest_failed, why_refused
from optimizely_api.comparison.report.trials import EQUAL, GROWING, OVERLOAD, OWN_SHARE, TRIED
from optimizely_api.comparison.rig.bench import LOAD_START_SECONDS, Bench, Events, as_json
from optimizely_api.comparison.rig.workloads import CPU_PATH

Trial = dict[str, Any]
ShowStep = Callable[[str], None]
Scenario = Callable[[Bench, "Known", ShowStep], Coroutine[Any, Any, list[Trial]]]

# Starting points of the first search. A closer guess shortens it and does not change the result.
GUESSES = {
    "multiprocessing": 10.0,
    "multiprocessing-kept": 12.0,
    "multiprocessing-more": 10.0,
    "threads": 270.0,
    "gevent": 270.0,
    "asyncio": 1200.0,
    "asyncio-blocked": 1000.0,
}
FEWEST_REQUESTS = 20  # of a trial in a search
LONGEST_TRIAL_FACTOR = 3
# A failed trial is repeated once if its p99 is below NEARLY times the objective and at most NEARLY_SHARE was lost.
NEARLY = 3.0
NEARLY_SHARE = 0.05
CPU_CALLERS_PER_WORKER = 16
WARMING_REQUESTS_PER_WORKER = 2
LONGEST_RESTART_SECONDS = 60.0
STARTS_PER_RESTART = 2  # how many times longer than a start a restart under load may take


@dataclass
class Known:
    """What the scenarios of a comparison know from each other.

    `highest` has the highest rate of each mode in the first repetition: later ones offer shares of the same rate.
    `latest` has that of the latest repetition, from which the next search starts.
    """

    options: Options
    iterations: int
    highest: dict[str, float] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)

    def found(self, mode: str, rate: float) -> None:
        self.highest.setdefault(mode, rate)
        self.latest[mode] = rate

    def guess(self, mode: str) -> float:
        return self.latest.get(mode) or GUESSES[mode]

    def equal_rate(self) -> float:
        """One rate for all modes: a share of the lowest of their highest rates, and at most that of the options."""
        shares = [self.options.share * highest for highest in self.highest.values() if highest]
        return rounded_rate(min([self.options.rate, *shares]))

    def own_rate(self, mode: str, share: float) -> float | None:
        """A share of the mode's own highest rate; None if no rate held."""
        highest = self.highest.get(mode)
        return rounded_rate(highest * share) if highest else None


async def one(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
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
    return [
        _trial(
            bench,
            "one",
            durations_ms=[round(duration * 1000, 1) for duration in durations],
            least_possible_ms=least if options.upstreams == "stub" else None,
        )
    ]


async def cpu(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """The highest number of responses per second when each takes a fixed amount of computing."""
    options = bench.options
    callers = CPU_CALLERS_PER_WORKER * options.workers
    show_step(f"{options.cpu_ms:g} ms of computing per request")
    path = f"{CPU_PATH}?iterations={known.iterations}"
    answers = await asyncio.to_thread(bench.as_fast_as_it_can, path, callers, options.cpu_seconds)
    return [
        _trial(
            bench,
            "cpu",
            answers=answers,
            seconds=options.cpu_seconds,
            answers_per_second=round(answers / options.cpu_seconds, 1),
            callers=callers,
            cpu_ms=options.cpu_ms,
        )
    ]


async def search(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """The highest rate with good responses only and p99 within the objective."""
    tried: list[dict[str, Any]] = []
    mode = bench.gateway.mode.name
    searching = RateSearch(known.guess(mode), step=bench.options.search_step)
    while (rate := searching.next_rate()) is not None:
        show_step(f"trying {rate:g}/s")
        searching.record(rate, await _holds(bench, rate, tried))
    known.found(mode, searching.highest)
    failed = lowest_failed(tried, searching.highest)
    return [
        _trial(
            bench,
            "search",
            TRIED,
            highest_rate=searching.highest,
            lowest_failed=failed,
            reached_limit=searching.reached_limit or (failed is None and searching.highest > 0),
            trials=tried,
        )
    ]


async def steady(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """The same rate for every mode, and the same share of each mode's own highest rate."""
    options = bench.options
    trials = []
    for kind, share, rate, seconds in (
        (EQUAL, None, known.equal_rate(), options.equal_seconds),
        (
            OWN_SHARE,
            options.share,
            known.own_rate(bench.gateway.mode.name, options.share),
            options.share_seconds,
        ),
    ):
        if rate is not None:
            show_step(f"{rate:g}/s")
            measured = await _fit(bench, [(rate, seconds)])
            trials.append(_load(bench, "steady", measured, kind, share=share, rate=rate))
    return trials


async def ramp(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """Offered load that grows by the same factor every second, the same for every mode."""
    options = bench.options
    rates = ramp_rates(options.ramp_from, options.ramp_to, options.ramp_seconds)
    show_step(f"{options.ramp_from:g}/s to {options.ramp_to:g}/s")
    measured = await _fit(bench, [(rate, 1.0) for rate in rates])
    highest, reached_limit = highest_in_ramp(measured.seconds, options.objective_ms)
    if "search" not in options.scenarios:
        known.found(bench.gateway.mode.name, highest)
    return [_load(bench, "ramp", measured, GROWING, highest_rate=highest, reached_limit=reached_limit)]


async def slow(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """A steady load during which one of the upstreams is slow for a while."""
    options = bench.options

    async def unhealthy(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + options.calm_seconds)
        events.append((time.time(), "slow"))
        with bench.upstreams.slow_results(options.slow_delay_ms):
            await asyncio.sleep(options.slow_seconds)
        events.append((time.time(), "well again"))

    rate, kind = _own_rate(bench, known)
    show_step(f"{rate:g}/s")
    seconds = float(options.calm_seconds * 2 + options.slow_seconds)
    measured = await _fit(bench, [(rate, seconds)], during=unhealthy)
    return [_load(bench, "slow", measured, **kind)]


async def restart(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """A steady load during which gunicorn replaces its workers; the load is as long as that takes."""
    options = bench.options
    before_seconds = options.restart_seconds / 4

    async def replace_workers(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + before_seconds)
        events.append((time.time(), "restart"))
        await bench.gateway.replace_workers(rolling=options.restart == "rolling")
        events.append((time.time(), "new workers alone"))

    rate, kind = _own_rate(bench, known)
    show_step(f"{rate:g}/s")
    starting = STARTS_PER_RESTART * bench.start_seconds
    seconds = max(float(options.restart_seconds), 2 * before_seconds + starting)
    trial = _load(bench, "restart", await bench.measure([(rate, seconds)], during=replace_workers), **kind)
    if trial["refused"]:
        last = max((event["at"] for event in trial["events"]), default=0.0)
        seconds = min(max(seconds, last + starting), LONGEST_RESTART_SECONDS)
        show_step(f"{rate:g}/s for {seconds:.0f} s")
        await bench.gateway.settle()
        trial = _load(
            bench, "restart", await bench.measure([(rate, seconds)], during=replace_workers), **kind
        )
    return [trial]


async def overload(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """Rates beyond the mode's own limit, each followed by a load that it carries, during which it may recover."""
    options = bench.options
    mode = bench.gateway.mode.name
    calm = known.own_rate(mode, options.share)
    trials = []
    for factor in options.overloads:
        rate = known.own_rate(mode, factor)
        if rate is None or calm is None:
            continue
        show_step(f"{rate:g}/s, {factor:g} times its limit")
        phases = [(rate, float(options.overload_seconds)), (calm, float(options.recovery_seconds))]
        # As in the search: a response after twice the objective is worth nothing to its caller.
        measured = await bench.measure(phases, timeout_seconds=2 * options.objective_ms / 1000)
        over = [second for second in measured.seconds if second.end <= options.overload_seconds]
        after = measured.seconds[len(over) :]
        trials.append(
            _load(
                bench,
                "overload",
                measured,
                OVERLOAD,
                share=factor,
                rate=rate,
                limit_rate=known.highest[mode],
                overload_seconds=options.overload_seconds,
                goodput=[round(second.good / (second.end - second.start), 1) for second in over],
                recovery_seconds=recovery_seconds(after, options.objective_ms),
                recovery_window_seconds=options.recovery_seconds,
            )
        )
        await bench.gateway.settle()
    return trials


def recovery_seconds(after: Sequence[Second], objective_ms: float) -> float | None:
    """From the end of an overload to the first second from which on all were good; None if the last one was not."""
    recovered = None
    for second in reversed(after):
        if not is_good(second, objective_ms):
            break
        recovered = second.start - after[0].start
    return recovered


async def blocking(bench: Bench, known: Known, show_step: ShowStep) -> list[Trial]:
    """A steady load while some calls go to a view that blocks the event loop; only the other requests are measured."""
    options = bench.options

    async def call(events: Events) -> None:
        await asyncio.sleep(LOAD_START_SECONDS + options.warm_up_seconds + options.calm_seconds)
        events.append((time.time(), "blocking calls"))
        await bench.call_blocking_view(options.slow_seconds)
        events.append((time.time(), "none any more"))

    rate, kind = _own_rate(bench, known)
    show_step(f"{rate:g}/s")
    before = bench.gateway.watchdog()["stalls"]
    # The calls come from another load process, whose start is part of the event.
    seconds = float(options.calm_seconds * 2 + options.slow_seconds + math.ceil(2 * LOAD_START_SECONDS))
    measured = await _fit(bench, [(rate, seconds)], during=call, blocking=False)
    watchdog = bench.gateway.watchdog()
    return [
        _load(
            bench,
            "blocking",
            measured,
            **kind,
            blocking_ms=options.blocking_ms,
            blocking_rate=options.blocking_rate,
            watchdog={**watchdog, "stalls": watchdog["stalls"] - before},
        )
    ]


def _own_rate(bench: Bench, known: Known) -> tuple[float, dict[str, Any]]:
    """A share of the mode's own highest rate, or the equal rate if none is known; and how the report calls it."""
    share = bench.options.share
    rate = known.own_rate(bench.gateway.mode.name, share)
    if rate is None:
        rate = known.equal_rate()
        return rate, {"rate_kind": EQUAL, "rate": rate}
    return rate, {"rate_kind": OWN_SHARE, "share": share, "rate": rate}


def _trial(
    bench: Bench,
    scenario: str,
    rate_kind: str | None = None,
    *,
    share: float | None = None,
    rate: float | None = None,
    **figures: Any,
) -> Trial:
    """A trial as in the report, with the reasons why its figures may not be stated."""
    trial = {
        "mode": bench.gateway.mode.name,
        "scenario": scenario,
        "repetition": bench.repetition,
        "rate_kind": rate_kind,
        "share": share,
        "rate": rate,
        **figures,
    }
    return {**trial, "refused": why_refused(trial)}


def _load(bench: Bench, scenario: str, measured: Measurement, rate_kind: str, **more: Any) -> Trial:
    return _trial(bench, scenario, rate_kind, **as_json(measured), **more)


async def _fit(bench: Bench, phases: Sequence[tuple[float, float]], **how: Any) -> Measurement:
    """Measure, and repeat it once if the generator fell behind; the report leaves out what is still not fit."""
    measured = await bench.measure(phases, **how)
    if not measured.not_fit:
        return measured
    await bench.gateway.settle()
    return await bench.measure(phases, **how)


async def _holds(bench: Bench, rate: float, tried: list[dict[str, Any]]) -> bool:
    measured = await _try(bench, rate, tried)
    if measured.meets(bench.options.objective_ms):
        return True
    if not _nearly(measured, bench.options.objective_ms):
        return False
    return (await _try(bench, rate, tried)).meets(bench.options.objective_ms)


async def _try(bench: Bench, rate: float, tried: list[dict[str, Any]]) -> Measurement:
    options = bench.options
    least = options.trial_seconds
    seconds = min(max(least, FEWEST_REQUESTS / rate), least * LONGEST_TRIAL_FACTOR)
    # A response after twice the objective fails the trial anyway: waiting longer tells nothing more.
    measured = await bench.measure([(rate, seconds)], timeout_seconds=2 * options.objective_ms / 1000)
    tried.append(
        {
            "rate": rate,
            "seconds": seconds,
            "holds": measured.meets(options.objective_ms),
            "offered": measured.offered,
            "good": measured.good,
            "errors": measured.errors,
            "other": measured.other,
            "p50_ms": measured.percentiles_ms["50"],
            "p99_ms": measured.percentiles_ms["99"],
            "slow_ms": measured.slow_ms,
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
        lost <= NEARLY_SHARE * measured.offered and (measured.slow_ms or 0.0) < NEARLY * objective_ms
    )


TITLES = {
    "one": "one request at a time",
    "cpu": "computing",
    "search": "highest rate",
    "steady": "steady load",
    "ramp": "growing load",
    "slow": "one upstream slow",
    "restart": "restart",
    "blocking": "a view that blocks",
    "overload": "overload",
    "trace": "four requests at once",
}
SCENARIOS: dict[str, Scenario] = {
    "one": one,
    "cpu": cpu,
    "search": search,
    "steady": steady,
    "slow": slow,
    "restart": restart,
    "blocking": blocking,
    "ramp": ramp,
    "overload": overload,
}
# Measured in every repetition. The others are about a single event, and measured in the first; so are the highest rate
# and the growing load of the mode with a blocking view.
REPEATED = frozenset({"one", "cpu", "search", "steady", "ramp"})
REPEATED_WITH_BLOCKING = frozenset({"blocking"})


def order_of(asked: Sequence[str]) -> list[str]:
    """All scenarios in their order.

    The growing load and the overload come last because they leave queues behind; without `search` the growing load
    comes first, because other scenarios need the modes' highest rates.
    """
    order = list(SCENARIOS)
    if "search" not in asked:
        order.remove("ramp")
        order.insert(order.index("search"), "ramp")
    return order


def scenarios_of(blocks_the_loop: bool, asked: Sequence[str], repetition: int = 1) -> list[str]:
    """The scenarios of a mode in a repetition, in their order; the mode with a blocking view has one of its own."""
    with_blocking = {"search", "ramp"} & set(asked) | {"blocking"}
    own = with_blocking if blocks_the_loop else set(asked)
    if repetition > 1:
        own &= REPEATED_WITH_BLOCKING if blocks_the_loop else REPEATED
    return [name for name in order_of(asked) if name in own]
