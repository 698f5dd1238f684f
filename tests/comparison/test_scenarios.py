"""What each scenario asks of a mode, and which of its figures it refuses; the bench here plays back known outcomes."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from optimizely_api.comparison.load.result import LATE
from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.arithmetic import measurement
from optimizely_api.comparison.report.trials import EQUAL, OVERLOAD, OWN_SHARE
from optimizely_api.comparison.rig.modes import MODES
from optimizely_api.comparison.scenarios import Known, overload, recovery_seconds, restart, search, steady
from tests.comparison.known_report import load, tally

OPTIONS = Options(balancer=False)


class PlayedBench:
    """A bench whose measurements are those that `play` returns for phases; it keeps what it was asked for."""

    def __init__(self, play, mode="asyncio", options=OPTIONS):
        self.options = options
        self.gateway = SimpleNamespace(mode=MODES[mode], settle=self._settle)
        self.repetition = 1
        self.start_seconds = 3.0
        self.asked = []
        self.settled = 0
        self._play = play

    async def measure(self, phases, **how):
        self.asked.append(list(phases))
        return self._play(phases)

    async def _settle(self):
        self.settled += 1
        return False


def known(**highest):
    return Known(OPTIONS, iterations=1, highest=highest)


def run(scenario, bench, what):
    return asyncio.run(scenario(bench, what, lambda _what: None))


def kept(phases):
    """Every request of every second is good."""
    return measurement(
        load(*(tally(round(rate)) for rate, seconds in phases for _ in range(int(seconds)))), None
    )


def late(phases):
    """The generator sent nothing in time."""
    seconds = [tally(max(10, round(rate))) for rate, seconds in phases for _ in range(int(seconds))]
    for each in seconds:
        each.sent = 0
        each.unsent[LATE] = each.offered
    return measurement(load(*seconds), None)


def test_all_modes_get_one_rate_and_each_a_share_of_its_own():
    modes = known(multiprocessing=10.0, asyncio=400.0)
    bench = PlayedBench(kept)
    equal, own = run(steady, bench, modes)
    assert (equal["rate_kind"], equal["rate"]) == (EQUAL, 6.0)
    assert (own["rate_kind"], own["share"], own["rate"]) == (OWN_SHARE, 0.6, 240.0)
    assert [phases[0][0] for phases in bench.asked] == [6.0, 240.0]


def test_later_repetitions_ask_for_the_shares_of_the_first():
    modes = known()
    modes.found("asyncio", 400.0)
    modes.found("asyncio", 300.0)
    assert modes.own_rate("asyncio", 0.5) == 200.0
    assert modes.guess("asyncio") == 300.0


def test_a_mode_in_which_no_rate_held_has_no_share():
    modes = known(multiprocessing=0.0, asyncio=400.0)
    assert modes.own_rate("multiprocessing", 0.6) is None
    assert modes.equal_rate() == OPTIONS.rate
    assert [each["rate_kind"] for each in run(steady, PlayedBench(kept, "multiprocessing"), modes)] == [EQUAL]


def test_a_generator_that_falls_behind_twice_has_its_figures_refused():
    bench = PlayedBench(late)
    trials = run(steady, bench, known(asyncio=400.0))
    assert len(bench.asked) == 4, "each load was repeated once"
    for trial in trials:
        assert "the load generator fell behind: phase 0" in trial["refused"][0]


def test_a_search_in_which_no_rate_could_be_offered_is_refused():
    (trial,) = run(search, PlayedBench(late), known())
    assert trial["refused"] == ["the load generator fell behind at every rate"]


def test_a_search_ends_between_a_rate_that_held_and_one_that_did_not():
    def up_to_500(phases):
        (rate, seconds), *_ = phases
        each = tally(round(rate)) if rate <= 500 else tally(0, late=round(rate))
        return measurement(load(*[each] * int(seconds)), None)

    modes = known()
    (trial,) = run(search, PlayedBench(up_to_500), modes)
    assert trial["highest_rate"] <= 500 < trial["lowest_failed"]
    assert trial["lowest_failed"] / trial["highest_rate"] < OPTIONS.search_step * 1.01
    assert modes.highest == {"asyncio": trial["highest_rate"]}


def test_the_load_of_a_restart_is_lengthened_to_the_restart():
    def outlasting(phases):
        made = kept(phases)
        made.events = [{"at": 3.0, "what": "restart"}, {"at": 16.0, "what": "new workers alone"}]
        return made

    bench = PlayedBench(outlasting, "multiprocessing")
    (trial,) = run(restart, bench, known(multiprocessing=10.0))
    (((_, first),), ((_, second),)) = bench.asked
    assert first < 16 < second
    assert trial["refused"] == [], "the second load was long enough"


def test_a_restart_that_outlasts_every_load_is_refused():
    def endless(phases):
        made = kept(phases)
        made.events = [{"at": 3.0, "what": "restart"}, {"at": 80.0, "what": "new workers alone"}]
        return made

    bench = PlayedBench(endless, "multiprocessing")
    (trial,) = run(restart, bench, known(multiprocessing=10.0))
    assert len(bench.asked) == 2
    assert "it ended (`new workers alone`) at 80.00 s, after the load" in trial["refused"][0]


def test_an_overload_is_held_and_followed_by_a_load_that_the_mode_carries():
    def saturated(phases):
        (over, seconds), (calm, after) = phases
        lost = [tally(100, late=round(over) - 100) for _ in range(int(seconds))]
        well = [tally(0, late=round(calm)), *(tally(round(calm)) for _ in range(int(after) - 1))]
        return measurement(load(*lost, *well), None)

    bench = PlayedBench(saturated)
    trials = run(overload, bench, known(asyncio=400.0))
    assert [(each["rate_kind"], each["share"], each["rate"]) for each in trials] == [
        (OVERLOAD, 1.5, 600.0),
        (OVERLOAD, 3.0, 1200.0),
    ]
    assert bench.asked[0] == [(600.0, 15.0), (240.0, 5.0)]
    assert trials[0]["goodput"] == [100.0] * 15
    assert trials[0]["recovery_seconds"] == 1.0
    assert bench.settled == 2


def seconds_of(*goods):
    made = load(*(tally(10) if good else tally(9, late=1) for good in goods))
    return measurement(made, None).seconds


@pytest.mark.parametrize(
    ("goods", "recovered"),
    [
        ([True, True, True], 0.0),
        ([False, True, True], 1.0),
        ([True, False, True], 2.0),
        ([True, True, False], None),
        ([], None),
    ],
)
def test_recovered_is_when_every_later_second_was_good(goods, recovered):
    assert recovery_seconds(seconds_of(*goods) if goods else [], 1000.0) == recovered


def test_a_slow_second_is_not_recovered():
    slow = [replace(second, max_ms=1500.0) for second in seconds_of(True, True)]
    assert recovery_seconds(slow, 1000.0) is None
