"""No sentence of a report contradicts its figures, whatever was measured: rules, and generated comparisons."""

import math
import re
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report import report as reporting
from optimizely_api.comparison.report.arithmetic import RateSearch
from optimizely_api.comparison.report.captions import captions
from optimizely_api.comparison.report.statements import (
    EVENTS,
    LESS,
    MORE,
    SAME,
    UNDECIDED,
    Rate,
    blocking_verdict,
    compare_rates,
    digits,
    highest_rate,
    plain_words,
    rounded,
    share_text,
    why_left_out,
)
from optimizely_api.comparison.report.table import rows
from optimizely_api.comparison.rig.modes import MODES

STEP = 1.12
RESULT_SETS = 1000


def found(held: float, failed: float | None = None) -> Rate:
    return Rate(held, held * STEP if failed is None else failed, confirmed=True)


@pytest.mark.parametrize(
    ("rate", "other", "said"),
    [
        (found(451), found(9), "about 50 times"),
        (found(100), found(292), "about 0.34 times"),
        (found(451), found(292, math.inf), UNDECIDED),
        (found(200), found(292, math.inf), LESS),
        (found(451, math.inf), found(292), "at least 1.3 times"),
        (found(451, math.inf), found(292, math.inf), UNDECIDED),
        (found(451), found(0, 0.5), MORE),
        (found(0, 0.5), found(451), LESS),
        (found(451), found(430), SAME),
    ],
)
def test_a_ratio_has_two_digits_and_no_bound_below(rate, other, said):
    assert compare_rates(rate, other).times == said


def test_the_two_ends_of_a_growing_load_have_no_ratio():
    first, last = Rate(2.0, 9.46, confirmed=False), Rate(1000.0, math.inf, confirmed=False)
    compared = compare_rates(last, first)
    assert (compared.relation, compared.ratio) == (MORE, None)
    assert compared.why == "a rate read off the growing load was not confirmed"


def test_a_smoke_test_has_no_ratio():
    assert compare_rates(found(400), found(10), quick=True).times == MORE


@pytest.mark.parametrize(("factor", "carried"), [(1.01, 3), (1.12, 2), (1.25, 2), (1.5, 1), (4.7, 1)])
def test_a_figure_has_the_digits_that_the_grid_carries(factor, carried):
    assert digits(factor) == carried


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (found(451), "450/s"),
        (found(459, math.inf), "≥ 450/s"),
        (found(9.46, 44.7), "9/s"),
        (found(0, 0.531), "< 0.54/s"),
        (found(105.1, 109), "100/s"),
        (found(0.29, math.inf), "≥ 0.29/s"),
    ],
)
def test_a_rate_is_never_rounded_to_one_that_did_not_hold(rate, said):
    assert rate.text == said


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0.0%"), (0.0004, "< 0.1%"), (0.25, "25.0%"), (0.9996, "> 99.9%"), (1, "100.0%")]
)
def test_none_and_all_are_exactly_that(share, said):
    assert share_text(share) == said


def test_a_restart_that_outlasts_the_load_is_left_out():
    late = {
        "not_fit": [],
        "seconds": [{"end": 12.0}],
        "events": [{"at": 3.0, "what": "restart"}, {"at": 14.2, "what": "new workers alone"}],
    }
    assert why_left_out("restart", late) == [
        "it ended (`new workers alone`) at 14.20 s, after the load, which ended at 12.00 s"
    ]


# Generated comparisons. Every rate up to a mode's capacity holds, unless the generator fell behind in its trial.

capacities = st.floats(math.log(0.2), math.log(9000)).map(math.exp)
milliseconds = st.integers(1, 6000).map(float)


@st.composite
def searches(draw: st.DrawFn, capacity: float) -> dict[str, Any]:
    searching = RateSearch(draw(st.sampled_from([8.0, 300.0, 800.0])), step=STEP)
    unfit_above = draw(st.none() | capacities)
    chance, disturbances = draw(st.randoms(use_true_random=True)), draw(st.sampled_from([0.0, 0.0, 0.3]))
    trials = []
    while (rate := searching.next_rate()) is not None:
        is_late = (unfit_above is not None and rate > unfit_above) or chance.random() < disturbances
        not_fit = ["too late"] if is_late else []
        holds = rate <= capacity and not not_fit
        trials.append({"rate": rate, "holds": holds, "not_fit": not_fit, "usage": {"others_share": 0.0}})
        searching.record(rate, holds)
    above = [trial for trial in trials if trial["rate"] > searching.highest and not trial["holds"]]
    cut = bool(above) and all(trial["not_fit"] for trial in above)
    return {
        "highest_rate": searching.highest,
        "found_by": "search",
        "reached_limit": searching.reached_limit or cut,
        "trials": trials,
        "at_highest": None,
    }


@st.composite
def measurements(draw: st.DrawFn, scenario: str) -> dict[str, Any]:
    # One drawn seed for all seconds: a draw per figure takes most of the test's time.
    chance = draw(st.randoms(use_true_random=True))
    seconds = [
        {
            "start": float(second),
            "end": second + 1.0,
            "rate": 2.0 * 1.5**second,
            "offered": 1000,
            "good": 1000 - lost,
            "lost": lost,
            "p99_ms": chance.choice([None, *(float(chance.randint(1, 999)) for _ in range(8))]),
            "fit": True,
        }
        for second, lost in enumerate(chance.choices([0, 0, 0, 1, 500, 1000], k=chance.randint(1, 6)))
    ]
    lost, offered = sum(each["lost"] for each in seconds), 1000 * len(seconds)
    begin = chance.uniform(-0.2, len(seconds))
    at = [round(begin, 2), round(chance.uniform(begin, len(seconds) + 0.5), 2)]
    names = EVENTS.get(scenario, ())[: chance.choice([2, 2, 2, 2, 1])]
    known = [each["p99_ms"] for each in seconds if each["p99_ms"] is not None]
    return {
        "offered": offered,
        "good": offered - lost,
        "lost": lost,
        "error_share": lost / offered,
        "errors": {},
        "percentiles_ms": {"99": max(known, default=None), "100": max(known, default=None)},
        "seconds": seconds,
        "not_fit": chance.choice([[], [], [], [], ["phase 0: too late"]]),
        "events": [{"at": moment, "what": what} for moment, what in zip(at, names, strict=False)],
        "usage": {"others_share": chance.random(), "most_memory_mb": 100.0, "most_processes": 3},
        "rate": 10.0,
        "blocking_ms": 500.0,
        "blocking_rate": 1.0,
        "watchdog": {"stalls": 1},
    }


@st.composite
def ramps(draw: st.DrawFn, capacity: float) -> dict[str, Any]:
    made = draw(measurements("ramp"))
    held = [second["rate"] for second in made["seconds"] if second["rate"] <= capacity]
    return {
        **made,
        "highest_rate": held[-1] if held else 0.0,
        "reached_limit": len(held) == len(made["seconds"]),
    }


@st.composite
def outcomes(draw: st.DrawFn, name: str) -> dict[str, Any]:
    capacity = draw(capacities)
    requests = draw(st.lists(milliseconds, min_size=3, max_size=3))
    parts = {
        "search": lambda: draw(searches(capacity)),
        "ramp": lambda: draw(ramps(capacity)),
        "slow": lambda: draw(measurements("slow")),
        "restart": lambda: draw(measurements("restart")),
        "blocking": lambda: draw(measurements("blocking")),
        "one": lambda: {
            "requests": 3,
            "median_ms": median(requests),
            "shortest_ms": min(requests),
            "longest_ms": max(requests),
            "least_possible_ms": None,
        },
        "cpu": lambda: {"answers_per_second": float(draw(st.integers(0, 400)))},
    }
    if name != "asyncio-blocked":
        del parts["blocking"]
    chosen = draw(st.sets(st.sampled_from(sorted(parts)), min_size=3))
    return {
        "title": MODES[name].title,
        "capacity": capacity,
        **{part: make() for part, make in parts.items() if part in chosen},
    }


@st.composite
def comparisons_made(draw: st.DrawFn) -> dict[str, Any]:
    quick = draw(st.sampled_from([False, False, False, True]))
    options = Options(quick=quick, search_step=STEP)
    modes = {name: draw(outcomes(name)) for name in MODES}
    return {
        "modes": modes,
        "options": {**vars(options)},
        "summary": reporting.summary(modes, options),
    }


def assert_ratios_hold(report: dict[str, Any]) -> None:
    """By the true capacities, and by the trials: no denominator is a bound."""
    capacity = {name: outcome["capacity"] for name, outcome in report["modes"].items()}
    for name, each in report["summary"]["comparisons"].items():
        true = capacity["asyncio"] / capacity[name]
        if each["relation"] == MORE:
            assert true >= 1 - 1e-9
        if each["relation"] == LESS:
            assert true <= 1
        if each["relation"] == SAME:
            assert not report["modes"][name].get("search") or 0.4 < true < 2.1
        if each["ratio"] is None:
            assert not re.search(r"\d", each["text"])
            continue
        assert not report["options"]["quick"]
        above, below = (report["modes"][mode]["search"] for mode in ("asyncio", name))
        assert below["highest_rate"] > 0
        assert not below["reached_limit"]
        assert any(
            not trial["holds"] and not trial["not_fit"] and trial["rate"] > below["highest_rate"]
            for trial in below["trials"]
        )
        assert each["text"].startswith("at least") is above["reached_limit"]
        assert each["ratio"] == float(f"{each['ratio']:.2g}"), "two digits at most"
        assert (each["ratio"] > 1) is (each["relation"] == MORE)
        if each["is_at_least"]:
            assert each["ratio"] <= true * (1 + 1e-9)
        else:
            assert true / 2.1 <= each["ratio"] <= true * 2.1


def assert_rates_hold(report: dict[str, Any]) -> None:
    for name, row in report["summary"]["modes"].items():
        text, capacity = row["highest_rate_text"], report["modes"][name]["capacity"]
        if text is None:
            continue
        number = float(re.sub(r"[^\d.e+-]", "", text.replace("/s", "")))
        assert number == float(f"{number:.2g}")
        failed = highest_rate(report["modes"][name], STEP).failed
        assert capacity < number if text.startswith("<") else number <= capacity * 1.12 or number < failed


def assert_verdicts_hold(report: dict[str, Any]) -> None:
    modes = report["modes"]
    one, *_ = [*(text for text in plain_words(report) if text.startswith("One slow request")), ""]
    for name in ("multiprocessing", "threads", "asyncio-blocked"):
        if "one" not in modes[name] or "one" not in modes["asyncio"]:
            continue
        mine, other, title = modes["asyncio"]["one"], modes[name]["one"], re.escape(modes[name]["title"])
        if re.search(rf"asyncio was faster than {title}[;.]", one, re.IGNORECASE):
            assert mine["longest_ms"] < other["shortest_ms"]
        elif re.search(rf"asyncio was slower than {title}[;.]", one, re.IGNORECASE):
            assert mine["shortest_ms"] > other["longest_ms"]
        elif re.search(rf"asyncio and {title} do not differ", one, re.IGNORECASE):
            low, high = sorted((mine["median_ms"], other["median_ms"]))
            assert high <= low * 1.1
        else:
            assert re.search(rf"vary too much to tell asyncio and {title} apart", one)
            assert mine["longest_ms"] >= other["shortest_ms"]
            assert other["longest_ms"] >= mine["shortest_ms"]


def assert_computing_holds(report: dict[str, Any]) -> None:
    modes = report["modes"]
    said, *_ = [*(text for text in plain_words(report) if "pure Python" in text), ""]
    for name in ("multiprocessing", "threads", "asyncio-blocked"):
        if "cpu" not in modes[name] or "cpu" not in modes["asyncio"]:
            continue
        mine, other = (modes[mode]["cpu"]["answers_per_second"] for mode in ("asyncio", name))
        title = re.escape(modes[name]["title"])
        if re.search(rf"asyncio answered more than {title}[;.]", said, re.IGNORECASE):
            assert mine > other * 1.1
        elif re.search(rf"asyncio answered fewer than {title}[;.]", said, re.IGNORECASE):
            assert other > mine * 1.1
        elif found := re.search(
            rf"asyncio and {title} do not differ by more than (\d+)%", said, re.IGNORECASE
        ):
            low, high = sorted((mine, other))
            assert high <= low * (1 + (int(found[1]) + 0.5) / 100)
        else:
            assert re.search(rf"too few answers to compare asyncio with {title}", said, re.IGNORECASE)
            assert min(mine, other) == 0


def assert_blocking_holds(report: dict[str, Any]) -> None:
    blocked = report["modes"]["asyncio-blocked"].get("blocking")
    if not blocked or why_left_out("blocking", blocked):
        assert not any(text.startswith("A view that blocks") for text in plain_words(report))
        return
    verdict = blocking_verdict(blocked)
    begin, end = (event["at"] for event in blocked["events"])
    measured = [second for second in blocked["seconds"] if second["p99_ms"] is not None]
    during = [each["p99_ms"] for each in measured if each["start"] < end and each["end"] > begin]
    others = [each["p99_ms"] for each in measured if not (each["start"] < end and each["end"] > begin)]
    if "too few" in verdict:
        assert not during or not others
    elif "did not rise" in verdict:
        assert max(during) <= max(others) * 1.1
    else:
        assert max(during) > max(others) * 1.1
        assert f"to {max(during):.0f} ms at most" in verdict, (
            "the sentence names the highest point of the chart"
        )


def assert_left_out(report: dict[str, Any]) -> None:
    """What is left out has no figure in the table and the captions, and a reason in the list."""
    table = {line[0]: line[1:] for line in rows(report)}
    names = list(report["summary"]["modes"])
    for scenario, row in (("slow", "upstream slow"), ("restart", "restart")):
        for column, name in enumerate(names):
            measured = report["modes"][name].get(scenario)
            shown = table[f"5XX or no response, {row}"][column]
            ended = measured and [event["at"] for event in measured["events"]]
            is_whole = bool(
                measured
                and not measured["not_fit"]
                and len(ended) == 2
                and ended[0] >= 0
                and ended[1] <= measured["seconds"][-1]["end"]
            )
            assert (shown != "-") is is_whole
            title = report["modes"][name]["title"]
            listed = any(text.startswith(f"{title}, {scenario}:") for text in report["summary"]["left_out"])
            assert listed is (bool(measured) and not is_whole)
            assert (f"{title} at 10/s" in captions(report).get(scenario, "")) is is_whole
            if is_whole:
                assert (shown == "0.0%") is (measured["lost"] == 0)
                assert (shown == "100.0%") is (measured["good"] == 0)


@settings(max_examples=RESULT_SETS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(comparisons_made())
def test_no_sentence_contradicts_its_figures(report):
    assert_ratios_hold(report)
    assert_rates_hold(report)
    assert_verdicts_hold(report)
    assert_computing_holds(report)
    assert_blocking_holds(report)
    assert_left_out(report)
    assert all(text for text in captions(report).values())


@given(st.floats(1e-3, 1e6), st.integers(1, 3))
def test_a_bound_stays_a_bound_when_it_is_rounded(value, significant):
    assert rounded(value, significant, math.floor) <= value * (1 + 1e-8)
    assert rounded(value, significant, math.ceil) >= value * (1 - 1e-8)
