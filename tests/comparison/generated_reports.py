"""Reports of random comparisons, which may be interrupted, of few requests, or disturbed."""

import math
import random
from itertools import product
from typing import Any

from hypothesis import strategies as st

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report import report as reporting
from optimizely_api.comparison.report.arithmetic import RateSearch
from optimizely_api.comparison.report.refusals import EVENTS, lowest_failed, why_refused
from optimizely_api.comparison.report.trials import EQUAL, GROWING, OVERLOAD, OWN_SHARE, TRIED
from optimizely_api.comparison.rig.modes import MODES, USUAL, description
from tests.conftest import WHOLE

STEP = 1.12
RESULT_SETS = 1000 if WHOLE else 150

# Generated comparisons. In every repetition a mode has a capacity: each rate up to it holds, unless the generator fell
# behind in its trial. Hypothesis draws the seed, the numbers of modes and repetitions, and what they measure.


def made_trial(mode: str, scenario: str, kind: str | None, repetition: int, **figures: Any) -> dict[str, Any]:
    made = {"share": None, "rate": None, **figures, "mode": mode, "scenario": scenario}
    made |= {"rate_kind": kind, "repetition": repetition}
    return {**made, "refused": why_refused(made)}


def search(chance: random.Random, mode: str, repetition: int, capacity: float) -> dict[str, Any]:
    searching = RateSearch(chance.choice([8.0, 300.0, 800.0]), step=STEP)
    unfit_above = chance.choice([math.inf, math.inf, math.exp(chance.uniform(0, 9))])
    disturbances = chance.choice([0.0, 0.0, 0.3])
    tried = []
    while (rate := searching.next_rate()) is not None:
        not_fit = ["too late"] if rate > unfit_above or chance.random() < disturbances else []
        holds = rate <= capacity and not not_fit
        tried.append({"rate": rate, "holds": holds, "not_fit": not_fit, "usage": {"others_share": 0.0}})
        searching.record(rate, holds)
    failed = lowest_failed(tried, searching.highest)
    return made_trial(
        mode,
        "search",
        TRIED,
        repetition,
        highest_rate=searching.highest,
        lowest_failed=failed,
        reached_limit=searching.reached_limit or (failed is None and searching.highest > 0),
        trials=tried,
    )


def loaded(chance: random.Random, scenario: str) -> dict[str, Any]:
    """A load of a few seconds, in each of which none, some or all requests were lost."""
    per_second = chance.choice([6, 30, 1000])
    seconds = [
        {
            "start": float(second),
            "end": second + 1.0,
            "rate": 2.0 * 1.5**second,
            "offered": per_second,
            "good": per_second - lost,
            "lost": lost,
            "p50_ms": chance.choice([None, 1.0, 100.0]),
            "p99_ms": None,
            "max_ms": chance.choice([None, *(float(chance.randint(1, 999)) for _ in range(8))]),
            "fit": True,
        }
        for second, lost in enumerate(
            chance.choices([0, 0, 0, 1, per_second // 2, per_second], k=chance.randint(1, 6))
        )
    ]
    lost, offered = sum(each["lost"] for each in seconds), per_second * len(seconds)
    begin = chance.uniform(-0.2, len(seconds))
    at = [round(begin, 2), round(chance.uniform(begin, len(seconds) + 0.5), 2)]
    names = EVENTS.get(scenario, ())[: chance.choice([2, 2, 2, 2, 1])]
    waits = sorted(float(chance.randint(1, 999)) for _ in range(3))
    good = offered - lost
    distribution = [(waits[0], good // 2), (waits[1], good // 3), (waits[2], good - good // 2 - good // 3)]
    return {
        "offered": offered,
        "good": good,
        "lost": lost,
        "error_share": lost / offered,
        "errors": {},
        "percentiles_ms": {
            "50": waits[1] if good else None,
            "99": waits[2] if offered >= 100 else None,
            "100": waits[2],
        },
        "distribution": distribution,
        "seconds": seconds,
        "not_fit": chance.choice([[], [], [], [], ["phase 0: too late"]]),
        "events": [{"at": moment, "what": what} for moment, what in zip(at, names, strict=False)],
        "usage": {"others_share": chance.random(), "most_memory_mb": 100.0, "most_processes": 3},
    }


def steady(chance: random.Random, mode: str, repetition: int) -> list[dict[str, Any]]:
    return [
        made_trial(mode, "steady", kind, repetition, **loaded(chance, "steady") | {"rate": 6.0})
        for kind in (EQUAL, OWN_SHARE)
    ]


def ramp(chance: random.Random, mode: str, repetition: int, capacity: float) -> dict[str, Any]:
    made = loaded(chance, "ramp")
    held = [second["rate"] for second in made["seconds"] if second["rate"] <= capacity]
    return made_trial(
        mode,
        "ramp",
        GROWING,
        repetition,
        **made,
        highest_rate=held[-1] if held else 0.0,
        reached_limit=len(held) == len(made["seconds"]),
    )


def overloads(chance: random.Random, mode: str, repetition: int) -> list[dict[str, Any]]:
    return [
        made_trial(
            mode,
            "overload",
            OVERLOAD,
            repetition,
            **loaded(chance, "overload") | {"share": factor, "rate": factor * 10},
            limit_rate=10.0,
            overload_seconds=15,
            goodput=[float(chance.randint(0, 30)) for _ in range(15)],
            recovery_seconds=chance.choice([None, 0.0, 3.0]),
            recovery_window_seconds=6,
        )
        for factor in (1.5, 3.0)
    ]


def made_trials(chance: random.Random, mode: str, repetition: int, capacity: float) -> list[dict[str, Any]]:
    """Some of the scenarios of a mode, as if the comparison had been interrupted or not asked for the others."""
    eventful = {"rate": 10.0, "blocking_ms": 500.0, "blocking_rate": 1.0, "watchdog": {"stalls": 1}}
    durations = [float(chance.randint(1, 6000)) for _ in range(3)]
    answers = chance.choice([0, 1, 50, chance.randint(0, 800)])
    parts = {
        "one": lambda: [
            made_trial(mode, "one", None, repetition, durations_ms=durations, least_possible_ms=None)
        ],
        "cpu": lambda: [
            made_trial(mode, "cpu", None, repetition, answers=answers, answers_per_second=answers / 2)
        ],
        "search": lambda: [search(chance, mode, repetition, capacity)],
        "steady": lambda: steady(chance, mode, repetition),
        "ramp": lambda: [ramp(chance, mode, repetition, capacity)],
        "overload": lambda: overloads(chance, mode, repetition),
    } | {
        name: lambda name=name: [
            made_trial(mode, name, OWN_SHARE, repetition, **loaded(chance, name) | eventful)
        ]
        for name in (("blocking",) if MODES[mode].blocks_the_loop else ("slow", "restart"))
    }
    chosen = chance.sample(sorted(parts), k=chance.randint(3, len(parts)))
    return [each for name, make in parts.items() if name in chosen for each in make()]


@st.composite
def comparisons_made(draw: st.DrawFn) -> dict[str, Any]:
    chance = random.Random(draw(st.integers(0, 2**32)))
    quick = draw(st.sampled_from([False, False, False, True]))
    options = Options(quick=quick, search_step=STEP, repeat=draw(st.integers(1, 3)))
    typical = {name: math.exp(draw(st.floats(math.log(0.2), math.log(9000)))) for name in USUAL}
    spread = draw(st.sampled_from([1.0, 1.05, 1.5]))
    capacities = {name: [] for name in USUAL}
    trials = []
    for repetition, name in product(range(1, options.repeat + 1), USUAL):
        capacity = typical[name] * chance.uniform(1 / spread, spread)
        capacities[name].append(capacity)
        trials += made_trials(chance, name, repetition, capacity)
    starts = [{"seconds": 3.0, "processes": 3, "memory_mb": 80.0}]
    modes = {name: {**description(MODES[name], workers=2, threads=32), "starts": starts} for name in USUAL}
    return {
        "capacities": capacities,
        "modes": modes,
        "trials": trials,
        "options": {**vars(options)},
        "summary": reporting.summary(modes, trials, options),
    }
