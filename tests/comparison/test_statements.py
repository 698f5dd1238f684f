"""No sentence of a report contradicts its figures, whatever was measured: rules, and generated comparisons."""

import math
import re
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizely_api.comparison.report.captions import captions
from optimizely_api.comparison.report.figures import share_text
from optimizely_api.comparison.report.refusals import why_refused
from optimizely_api.comparison.report.statements import (
    LESS,
    MORE,
    SAME,
    UNDECIDED,
    Rate,
    blocking_verdict,
    compare_rates,
    digits,
    highest_rate,
    overload_words,
    plain_words,
    rounded,
    slots_words,
    steady_words,
)
from optimizely_api.comparison.report.table import rows
from optimizely_api.comparison.report.trials import (
    stated,
    trials_of,
)
from optimizely_api.comparison.rig.modes import MODES, USUAL
from tests.comparison.generated_reports import RESULT_SETS, STEP, comparisons_made


def found(held: float, failed: float | None = None, trials: int = 3) -> Rate:
    return Rate(held, held * STEP if failed is None else failed, held, searched=True, trials=trials)


@pytest.mark.parametrize(
    ("rate", "other", "said"),
    [
        (found(451), found(9), "about 50 times (44 to 57)"),
        (found(100), found(292), "about 0.34 times (0.3 to 0.39)"),
        (Rate(2110, 2640, 2110, True, 3), Rate(13.4, 15, 13.4, True, 3), "about 160 times (140 to 200)"),
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
    first, last = Rate(2.0, 9.46, 2.0, searched=False), Rate(1000.0, math.inf, 1000.0, searched=False)
    compared = compare_rates(last, first)
    assert (compared.relation, compared.ratio) == (MORE, None)
    assert compared.why == "a rate read off the growing load was not searched for"


def test_one_repetition_has_no_ratio():
    compared = compare_rates(found(451, trials=1), found(9))
    assert (compared.relation, compared.why) == (MORE, "one repetition does not tell the spread")


def test_repetitions_that_overlap_do_not_differ():
    mine = Rate.over([found(300, trials=1), found(451, trials=1)])
    assert (mine.held, mine.failed, mine.middle, mine.trials) == (300, 451 * STEP, 375.5, 2)
    assert compare_rates(mine, found(320)).relation == SAME


def test_a_smoke_test_has_no_ratio():
    assert compare_rates(found(400), found(10), quick=True).times == MORE


@pytest.mark.parametrize(("factor", "carried"), [(1.01, 3), (1.12, 2), (1.25, 2), (1.5, 1), (4.7, 1)])
def test_a_figure_has_the_digits_that_the_grid_carries(factor, carried):
    assert digits(factor) == carried


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (found(451, trials=1), "450/s"),
        (found(451), "451/s (451 to 506)"),
        (found(459, math.inf), "≥ 450/s"),
        (found(9.46, 44.7, trials=1), "9/s"),
        (found(0, 0.531), "< 0.54/s"),
        (found(105.1, 109, trials=1), "100/s"),
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


def test_a_restart_that_outlasts_the_load_is_refused():
    late = {
        "scenario": "restart",
        "not_fit": [],
        "seconds": [{"end": 12.0}],
        "events": [{"at": 3.0, "what": "restart"}, {"at": 14.2, "what": "new workers alone"}],
    }
    assert why_refused(late) == [
        "it ended (`new workers alone`) at 14.20 s, after the load, which ended at 12.00 s"
    ]


def measured_capacities(report: dict[str, Any], mode: str) -> list[float]:
    """The true capacities in the repetitions whose rates the summary is about."""
    scenario = "search" if stated(report["trials"], mode, "search") else "ramp"
    known = stated if scenario == "search" else trials_of
    return [
        report["capacities"][mode][trial["repetition"] - 1]
        for trial in known(report["trials"], mode, scenario)
    ]


def assert_ratios_hold(report: dict[str, Any]) -> None:
    """By the true capacities, and by the trials: no denominator is a bound, and each ratio lies in its interval."""
    for name, each in report["summary"]["comparisons"].items():
        mine, other = measured_capacities(report, "asyncio"), measured_capacities(report, name)
        if each["relation"] == MORE:
            assert min(mine) >= max(other) * (1 - 1e-9)
        if each["relation"] == LESS:
            assert max(mine) <= min(other)
        if each["ratio"] is None:
            assert not re.search(r"\d", each["text"])
            continue
        assert not report["options"]["quick"]
        above, below = (stated(report["trials"], mode, "search") for mode in ("asyncio", name))
        assert min(len(above), len(below)) > 1
        assert all(search["highest_rate"] > 0 and not search["reached_limit"] for search in below)
        assert each["text"].startswith("at least") is any(search["reached_limit"] for search in above)
        assert each["ratio"] == float(f"{each['ratio']:.3g}"), "no digit that the grid does not carry"
        assert (each["ratio"] > 1) is (each["relation"] == MORE)
        assert each["least"] <= min(mine) / max(other) * (1 + 1e-9)
        assert each["least"] <= each["ratio"]
        if not each["is_at_least"]:
            assert each["most"] >= max(mine) / min(other) * (1 - 1e-9)
            assert each["ratio"] <= each["most"]
            assert f"({each['least']:g} to {each['most']:g})" in each["text"]


def assert_rates_hold(report: dict[str, Any]) -> None:
    for name, row in report["summary"]["modes"].items():
        text, rate = row["highest_rate_text"], highest_rate(report["trials"], name)
        if text is None:
            continue
        known = measured_capacities(report, name)
        number = float(re.match(r"[<≥]? ?([\d.e+-]+)/s", text)[1])
        if text.startswith("<"):
            assert max(known) < number
        elif text.startswith("≥"):
            assert number <= min(known) * (1 + 1e-9)
        else:
            if rate.trials == 1:
                assert number == float(f"{number:.{digits(rate.failed / rate.held)}g}")
            assert number < rate.failed
            assert rate.held <= min(known)
            assert max(known) <= rate.failed
            assert (" to " in text) is (rate.trials > 1)


def assert_verdicts_hold(report: dict[str, Any], said: str, key: str, words: tuple[str, str]) -> None:
    """asyncio was `words[0]` if its figure is lower in every repetition, `words[1]` if higher; else nothing is said."""
    modes = report["summary"]["modes"]
    mine = modes["asyncio"]["figures"][key]
    for name in USUAL:
        other = modes[name]["figures"][key]
        if name == "asyncio" or not mine or not other:
            continue
        title = re.escape(modes[name]["title"])
        if re.search(rf"asyncio was {words[0]} than {title}[;.]", said, re.IGNORECASE):
            assert mine["most"] < other["least"]
        elif re.search(rf"asyncio was {words[1]} than {title}[;.]", said, re.IGNORECASE):
            assert mine["least"] > other["most"]
        elif same := re.search(
            rf"asyncio and {title} do not differ by more than (\d+)%", said, re.IGNORECASE
        ):
            low, high = sorted((mine["value"], other["value"]))
            assert high <= low * (1 + (int(same[1]) + 0.5) / 100)
        elif re.search(rf"vary too much to tell asyncio and {title} apart", said, re.IGNORECASE):
            assert mine["most"] >= other["least"]
            assert other["most"] >= mine["least"]
        else:
            assert "too few answers to compare the modes" in said.lower()


def assert_plain_words_hold(report: dict[str, Any]) -> None:
    words = plain_words(report)
    for said, key, both in (
        (steady_words(report), "steady_equal_p50_ms", ("faster", "slower")),
        (_first(words, "One slow request"), "one_request_ms", ("faster", "slower")),
        (_first(words, "With 20 ms of pure"), "cpu_answers_per_second", ("slower", "faster")),
    ):
        assert_verdicts_hold(report, said, key, both)


def _first(words: list[str], beginning: str) -> str:
    return next((text for text in words if text.startswith(beginning)), "")


def assert_overloads_hold(report: dict[str, Any]) -> None:
    """A sentence for each overload, which names no recovery that was not seen."""
    said = overload_words(report)
    trials = [each for name in USUAL for each in stated(report["trials"], name, "overload")]
    assert len(said) == len(trials)
    for trial in trials:
        lost = [each for each in trials if (each["mode"], each["share"]) == (trial["mode"], trial["share"])]
        recovered = all(each["recovery_seconds"] is not None for each in lost)
        title = MODES[trial["mode"]].title
        texts = [text for text in said if text.startswith(f"{title} at {trial['share']:g} times")]
        assert texts
        assert all(("had recovered after" in text) is recovered for text in texts)


def assert_slots_hold(report: dict[str, Any]) -> None:
    for text in slots_words(report):
        name = next(name for name in USUAL if text.startswith(f"{MODES[name].title} can"))
        allowed = report["summary"]["slots"][name]["rate"]
        measured = report["summary"]["modes"][name]["figures"]["highest_rate"]
        if "which is more" in text:
            assert measured["least"] > allowed
        elif "which is less" in text:
            assert measured["most"] < allowed
        elif "which leaves it open" in text:
            assert measured["most"] is None or measured["least"] == 0
        else:
            assert measured["least"] <= allowed * 1.1
            assert measured["most"] >= allowed / 1.1 - 1e-9


def assert_blocking_holds(report: dict[str, Any]) -> None:
    blocked = stated(report["trials"], "asyncio-blocked", "blocking")
    if not blocked:
        assert not any(text.startswith("A view that blocks") for text in plain_words(report))
        return
    verdict = blocking_verdict(blocked)
    during, others = [], []
    for trial in blocked:
        begin, end = (event["at"] for event in trial["events"])
        for second in trial["seconds"]:
            if second["max_ms"] is not None:
                touched = second["start"] < end and second["end"] > begin
                (during if touched else others).append(second["max_ms"])
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
    """What is refused has no figure in the table and the captions, and a reason in the list."""
    table = {line[0]: line[1:] for line in rows(report)}
    for scenario, row in (("slow", "upstream slow"), ("restart", "restart")):
        for column, name in enumerate(report["summary"]["modes"]):
            whole = stated(report["trials"], name, scenario)
            shown = (
                table[f"5XX or no response, {row}"][column] if f"5XX or no response, {row}" in table else "-"
            )
            assert (shown != "-") is bool(whole)
            title = report["modes"][name]["title"]
            listed = {
                int(number)
                for text in report["summary"]["left_out"]
                for number in re.findall(rf"^{re.escape(title)}, {scenario}, repetition (\d):", text)
            }
            refused = {
                each["repetition"] for each in trials_of(report["trials"], name, scenario) if each["refused"]
            }
            assert listed == refused
            caption = captions(report).get(scenario)
            drawn = bool(caption) and any(part.startswith(f"{title} at 10/s") for part in caption.parts)
            assert drawn is bool(whole)
            shares = [each["error_share"] for each in whole]
            if whole:
                assert shown.startswith("0.0%") is (median(shares) == 0)
                assert shown.startswith("100.0%") is (median(shares) == 1)


def assert_enough_requests(report: dict[str, Any]) -> None:
    """No p99 stands on fewer than 100 requests, and every figure says what it stands on."""
    for row in report["summary"]["modes"].values():
        for key, figure in row["figures"].items():
            if figure is None:
                continue
            assert figure["trials"] >= 1
            if "_p99_" in key:
                assert figure["requests"] >= 100
            if figure["value"] is not None and figure["most"] is not None:
                assert figure["least"] <= figure["value"] <= figure["most"]


@settings(max_examples=RESULT_SETS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(comparisons_made())
def test_no_sentence_contradicts_its_figures(report):
    assert_ratios_hold(report)
    assert_rates_hold(report)
    assert_plain_words_hold(report)
    assert_overloads_hold(report)
    assert_slots_hold(report)
    assert_blocking_holds(report)
    assert_left_out(report)
    assert_enough_requests(report)


@given(st.floats(1e-3, 1e6), st.integers(1, 3))
def test_a_bound_stays_a_bound_when_it_is_rounded(value, significant):
    assert rounded(value, significant, math.floor) <= value * (1 + 1e-8)
    assert rounded(value, significant, math.ceil) >= value * (1 - 1e-8)
