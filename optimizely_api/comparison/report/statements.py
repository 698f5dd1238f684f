"""The rules that choose the report's sentences: what may be stated of measured figures, and what may not. No IO.

A highest rate lies between the lowest rate that held in any repetition and the highest that did not; either may be
missing. Two rates differ if these intervals are disjoint. A ratio needs a denominator with both ends, and rates that
searches found in at least two repetitions. Other figures differ if they differ by more than a spread, which the
sentence states, and if their values in all repetitions lie apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Self

from optimizely_api.comparison.report.figures import Figure
from optimizely_api.comparison.report.refusals import EVENTS
from optimizely_api.comparison.report.trials import EQUAL, OVERLOAD, Trial, stated, trials_of

SMOKE_TEST = "A smoke test: these measurements are too short for a comparison, and no ratios are quoted."
SPREAD = 0.10  # figures of one run that differ by less are equal
DISTURBING_SHARE = 0.15
MOST_DIGITS = 3
LEAST_REPETITIONS = 2  # that tell a spread
WIDEST = 2.0  # a factor between the two ends of a rate; a wider interval is no basis for a ratio

MORE, LESS, SAME, UNDECIDED = "more", "less", "no difference", "undecided"


@dataclass(frozen=True)
class Rate:
    """A highest rate in requests per second, over all repetitions.

    `held` is the lowest of the rates that held, 0 if none held in some repetition; `failed` the highest of the rates
    that did not, infinite if none failed in some repetition; `middle` the median of the rates that held. `searched` is
    true if searches found it, `trials` is their number.
    """

    held: float
    failed: float
    middle: float
    searched: bool
    trials: int = 1

    @classmethod
    def over(cls, rates: Sequence["Rate"]) -> Self:
        """The rate over repetitions, each with its own."""
        return cls(
            min(rate.held for rate in rates),
            max(rate.failed for rate in rates),
            median(rate.middle for rate in rates),
            all(rate.searched for rate in rates),
            len(rates),
        )

    @property
    def is_bound(self) -> bool:
        """Whether one end is missing, or the two are too far apart to stand for one figure."""
        return self.held <= 0 or self.failed == math.inf or self.failed / self.held > WIDEST

    @property
    def is_lower_bound(self) -> bool:
        return self.failed == math.inf

    @property
    def text(self) -> str:
        """The rate with the digits that the grid carries; after repetitions the interval too, as tried."""
        if self.held <= 0:
            return f"< {rounded(self.failed, 2, math.ceil):g}/s"
        if self.is_lower_bound:
            return f"≥ {rounded(self.held, 2, math.floor):g}/s"
        digits_carried = MOST_DIGITS if self.trials > 1 else digits(self.failed / self.held)
        nearest = rounded(self.middle, digits_carried)
        text = f"{nearest if nearest < self.failed else rounded(self.middle, digits_carried, math.floor):g}/s"
        if self.trials > 1:
            least, most = (
                rounded(self.held, MOST_DIGITS, math.floor),
                rounded(self.failed, MOST_DIGITS, math.ceil),
            )
            text += f" ({least:g} to {most:g})"
        return text


@dataclass(frozen=True)
class Comparison:
    """How one highest rate relates to another.

    `ratio` is None where none may be quoted; `why` then has the reason. It lies between `least` and `most`; `most` is
    None if the ratio is `at least`.
    """

    relation: str
    ratio: float | None = None
    least: float | None = None
    most: float | None = None
    is_at_least: bool = False
    why: str = ""

    @property
    def times(self) -> str:
        """The ratio in words, or the relation without one."""
        if self.ratio is None:
            return self.relation
        if self.is_at_least:
            return f"at least {self.ratio:g} times"
        return f"about {self.ratio:g} times ({self.least:g} to {self.most:g})"


def digits(factor: float) -> int:
    """The significant digits of a figure that is known up to a factor: two for 1.12, one for 1.5."""
    if factor <= 1:
        return MOST_DIGITS
    return min(MOST_DIGITS, max(1, 1 + round(-math.log10(factor - 1))))


def rounded(value: float, significant: int, to: Callable[[float], int] = round) -> float:
    """The value with so many digits; `math.floor` and `math.ceil` keep a bound a bound."""
    if value <= 0:
        return 0.0
    places = significant - 1 - math.floor(math.log10(value))
    # Nine digits hide the error of the binary fraction: the floor of 0.29 * 100 is 28 otherwise.
    return float(f"{to(float(f'{value * 10.0**places:.9g}')) / 10.0**places:.{significant}g}")


def highest_rate(trials: Sequence[Trial], mode: str) -> Rate | None:
    """A mode's highest rate by its searches, or by its growing loads without any.

    None if no rate was measured, or if none held in one repetition and none failed in another.
    """
    searched = [_of_search(search) for search in stated(trials, mode, "search")]
    # A load that grew up to where the generator fell behind tells a bound.
    rates = searched or [_of_ramp(ramp) for ramp in trials_of(trials, mode, "ramp")]
    if not rates:
        return None
    rate = Rate.over(rates)
    return rate if rate.held > 0 or rate.failed < math.inf else None


def _of_search(search: Trial) -> Rate:
    held, failed = search["highest_rate"], search["lowest_failed"]
    return Rate(held, math.inf if search["reached_limit"] else failed, held, searched=True)


def _of_ramp(ramp: Trial) -> Rate:
    held = ramp["highest_rate"]
    if ramp["reached_limit"]:
        return Rate(held, math.inf, held, searched=False)
    above = [second["rate"] for second in ramp["seconds"] if second["rate"] > held]
    # Without a higher rate, the highest one held in a second and failed in another: it did not hold.
    return Rate(held, min(above), held, searched=False) if above else Rate(0.0, held, 0.0, searched=False)


def compare_rates(rate: Rate, other: Rate, *, quick: bool = False) -> Comparison:
    """The relation of the first rate to the second, and their ratio if one may be quoted."""
    relation = _relation(rate, other)
    if relation == UNDECIDED:
        return Comparison(UNDECIDED, why="the bounds of the two rates overlap")
    if relation == SAME:
        return Comparison(SAME, why="the two rates do not differ beyond the grid of rates")
    if why := _why_no_ratio(rate, other, quick):
        return Comparison(relation, why=why)
    least, most = rate.held / other.failed, rate.failed / other.held
    if rate.is_lower_bound:
        quotient = rounded(least, digits(other.failed / other.held), math.floor)
    else:
        carried = digits(most / least)
        quotient = rounded(rate.middle / other.middle, carried)
        if (
            not least <= quotient < most
        ):  # one digit is too few for some figures; the interval stands beside it
            quotient = rounded(rate.middle / other.middle, carried + 1)
    # Too few digits can leave a quotient of 1, or one outside the bounds of the true one.
    if quotient == 1 or not quotient < most or (quotient < least and not rate.is_lower_bound):
        return Comparison(relation, why="the digits that the grid carries do not tell the ratio")
    if rate.is_lower_bound:
        return Comparison(relation, quotient, quotient, is_at_least=True)
    return Comparison(relation, quotient, rounded(least, 2, math.floor), rounded(most, 2, math.ceil))


def _relation(rate: Rate, other: Rate) -> str:
    if rate.held >= other.failed:
        return MORE
    if rate.failed <= other.held:
        return LESS
    return UNDECIDED if rate.is_bound or other.is_bound else SAME


def _why_no_ratio(rate: Rate, other: Rate, quick: bool) -> str:
    if quick:
        return "a smoke test quotes no ratio"
    if not (rate.searched and other.searched):
        return "a rate read off the growing load was not searched for"
    if min(rate.trials, other.trials) < LEAST_REPETITIONS:
        return "one repetition does not tell the spread"
    if other.is_bound:
        return "the denominator is a bound"
    if rate.is_bound and not rate.is_lower_bound:
        return "the numerator is an upper bound"
    return ""


def relation_of(value: float, other: float, spread: float = SPREAD) -> str:
    """Whether a figure is more or less than another by more than the spread."""
    if value > other * (1 + spread):
        return MORE
    if other > value * (1 + spread):
        return LESS
    return SAME


def left_out(modes: Mapping[str, Any], trials: Sequence[Trial]) -> list[str]:
    """A sentence for each reason why the figures of a trial are not stated."""
    sentences = [
        f"{modes[trial['mode']]['title']}, {name_of(trial)}: {reason}"
        for trial in trials
        for reason in trial["refused"]
    ]
    return sentences + [
        f"{mode['title']}, highest rate: none held in one repetition, and none failed in another"
        for name, mode in modes.items()
        if highest_rate(trials, name) is None and stated(trials, name, "search")
    ]


def name_of(trial: Trial) -> str:
    """The trial's scenario, what its rate is, and its repetition."""
    kind = trial["rate_kind"]
    share = f" at {trial['share']:g} times its highest rate" if kind == OVERLOAD else ""
    equal = " at the equal rate" if kind == EQUAL else ""
    return f"{trial['scenario']}{share}{equal}, repetition {trial['repetition']}"


def slowest_with_and_without(trial: Trial) -> tuple[list[float], list[float]]:
    """The slowest request in ms of each second that the blocking calls touch, and of each other second."""
    at = {event["what"]: event["at"] for event in trial["events"]}
    begin, end = (at[what] for what in EVENTS["blocking"])
    during: list[float] = []
    apart: list[float] = []
    for second in trial["seconds"]:
        if second["max_ms"] is not None:
            touched = second["end"] > begin and second["start"] < end
            (during if touched else apart).append(second["max_ms"])
    return during, apart


def disturbed(report: Mapping[str, Any]) -> list[str]:
    """A warning if other programs used more than DISTURBING_SHARE of the processors during a measurement."""
    shares = [
        part["usage"]["others_share"]
        for trial in report["trials"]
        for part in (trial, *trial.get("trials", ()))
        if "usage" in part
    ]
    if not shares or max(shares) < DISTURBING_SHARE:
        return []
    return [
        f"Other programs took up to {max(shares):.0%} of the processors while this was measured, {median(shares):.0%} "
        "in the median: the same comparison on a machine that does nothing else has other figures."
    ]


def plain_words(report: Mapping[str, Any]) -> list[str]:
    """Sentences on all but the highest rates and the growing load, with the figures of this run."""
    blocked = stated(report["trials"], "asyncio-blocked", "blocking")
    sentences = [
        steady_words(report),
        *overload_words(report),
        *slots_words(report),
        one_words(report),
        cpu_words(report),
        blocking_words(blocked) if blocked else "",
    ]
    return [sentence for sentence in sentences if sentence]


def steady_words(report: Mapping[str, Any]) -> str:
    """How long requests took at one rate that all modes carry, and whether the modes differ in it."""
    found = figures_of(report, "steady_equal_p50_ms")
    if not found:
        return ""
    rates = {
        trial["rate"]
        for trial in report["trials"]
        if trial["rate_kind"] == EQUAL and trial["scenario"] == "steady"
    }
    at = " and ".join(f"{rate:g}/s" for rate in sorted(rates))
    verdicts = _verdicts(report, found, "faster", "slower", SPREAD)
    return _sentence(
        f"At {at}, the same for all, half of all requests took at most {_listed(report, found)}", verdicts
    )


def overload_words(report: Mapping[str, Any]) -> list[str]:
    """What each mode still answered beyond its own limit, and when it had recovered."""
    sentences = []
    for name in report["summary"]["modes"]:
        for trial in stated(report["trials"], name, "overload"):
            key = f"overload_{trial['share']:g}"
            good = figures_of(report, f"{key}_goodput")[name]
            recovered = figures_of(report, f"{key}_recovery_seconds")[name]["text"]
            after = "had not recovered " if recovered.startswith("not") else "had recovered after "
            sentences.append(
                f"{_title(report, name)} at {trial['share']:g} times its limit of {trial['limit_rate']:g}/s gave "
                f"{good['text']} good responses, and {after}{recovered.removeprefix('not ')}."
            )
    return sentences


def slots_words(report: Mapping[str, Any]) -> list[str]:
    """Whether the number of requests that a mode can hold at once explains its highest rate (Little's law)."""
    sentences = []
    for name, each in report["summary"]["slots"].items():
        measured = figures_of(report, "highest_rate").get(name)
        if measured is None or measured["value"] is None:
            continue
        if measured["least"] > each["rate"] * (1 + SPREAD):
            verdict = "which is more: under load its requests take less time"
        elif measured["most"] is not None and measured["most"] * (1 + SPREAD) < each["rate"]:
            verdict = "which is less: not the number of requests at once, but something else limits it"
        elif measured["most"] is None or measured["least"] == 0:
            verdict = "which leaves it open"
        else:
            verdict = "which agrees within the spread: the number of requests at once limits it"
        sentences.append(
            f"{_title(report, name)} can hold {each['slots']} requests at once; at {each['seconds'] * 1000:.0f} ms "
            f"each, Little's law allows {rounded(each['rate'], 2):g}/s. Measured: {measured['text']}, {verdict}."
        )
    return sentences


def slots(report_modes: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """By Little's law the highest rate of each mode whose requests hold a thread, from their time at the equal rate."""
    found = {}
    for name, mode in report_modes.items():
        took = figures[name].get("steady_equal_p50_ms")
        if mode["threads"] and took and took["value"]:
            number, seconds = mode["workers"] * mode["threads"], took["value"] / 1000
            found[name] = {"slots": number, "seconds": seconds, "rate": number / seconds}
    return found


def one_words(report: Mapping[str, Any]) -> str:
    """How long one slow request takes alone, and whether the modes differ in it."""
    found = figures_of(report, "one_request_ms")
    if not found:
        return ""
    trials = [trial for name in found for trial in stated(report["trials"], name, "one")]
    least = trials[0]["least_possible_ms"]
    waiting = f" ({least:g} ms at least is waiting for the upstreams)" if least else ""
    verdicts = _verdicts(report, found, "faster", "slower", SPREAD)
    return _sentence(f"One slow request alone took {_listed(report, found)}{waiting}", verdicts)


def cpu_words(report: Mapping[str, Any]) -> str:
    """How many requests that only compute were answered a second, and whether the modes differ in it."""
    found = figures_of(report, "cpu_answers_per_second")
    if not found:
        return ""
    counted = min(figure["requests"] for figure in found.values())
    # Of few answers one more or less is a large share.
    spread = max(SPREAD, 2 / math.sqrt(counted)) if counted else math.inf
    verdicts = ["too few answers to compare the modes"] if math.isinf(spread) else []
    verdicts = verdicts or _verdicts(report, found, "slower", "faster", spread)
    computing = f"With {report['options']['cpu_ms']:g} ms of pure Python per request"
    return _sentence(f"{computing}, answers per second were {_listed(report, found)}", verdicts)


def _verdicts(
    report: Mapping[str, Any], found: Mapping[str, Figure], when_less: str, when_more: str, spread: float
) -> list[str]:
    """How asyncio's figure relates to that of each other mode."""
    if "asyncio" not in found:
        return []
    return [
        _verdict(found["asyncio"], other, _title(report, name), {LESS: when_less, MORE: when_more}, spread)
        for name, other in found.items()
        if name != "asyncio"
    ]


def _verdict(mine: Figure, other: Figure, title: str, words: Mapping[str, str], spread: float) -> str:
    relation = relation_of(mine["value"], other["value"], spread)
    if relation == SAME:
        return f"asyncio and {title} do not differ by more than {spread:.0%}"
    less, more = (mine, other) if relation == LESS else (other, mine)
    if less["most"] >= more["least"]:
        return f"the figures vary too much to tell asyncio and {title} apart"
    return f"asyncio was {words[relation]} than {title}"


def blocking_words(trials: Sequence[Trial]) -> str:
    """What the calls of a view that blocks did to all other requests."""
    first = trials[0]
    share = first["blocking_rate"] * first["blocking_ms"] / 1000
    stalls = sum(trial["watchdog"]["stalls"] for trial in trials)
    return (
        f"A view that blocks: with {first['blocking_rate']:g} call a second that sleeps "
        f"{first['blocking_ms']:g} ms ({share:.0%} of one worker's time), at {first['rate']:g}/s, "
        f"{blocking_verdict(trials)}. The watchdog logged {stalls} stalls meanwhile."
    )


def blocking_verdict(trials: Sequence[Trial]) -> str:
    """Whether seconds with blocking calls had a slower request than every second without."""
    during: list[float] = []
    apart: list[float] = []
    for trial in trials:
        touched, untouched = slowest_with_and_without(trial)
        during += touched
        apart += untouched
    if not during or not apart:
        return "too few seconds were measured to compare those with such calls with the others"
    above = [slowest for slowest in during if relation_of(slowest, max(apart)) == MORE]
    if above:
        return (
            f"the slowest of all other requests rose in {len(above)} of the {len(during)} seconds with such calls, "
            f"to {max(during):.0f} ms at most; in the seconds without it was {max(apart):.0f} ms at most"
        )
    return (
        f"the slowest of all other requests did not rise by more than {SPREAD:.0%}: {max(during):.0f} ms at most in "
        f"the seconds with such calls, {max(apart):.0f} ms at most in those without"
    )


def highest_words(report: Mapping[str, Any]) -> str:
    """How the highest rates were found, and how asyncio's relates to each other mode's."""
    rows = {n: row for n, row in report["summary"]["modes"].items() if row["highest_rate_text"]}
    ways = {row["highest_rate_found_by"] for row in rows.values()}
    how = {
        frozenset(
            {"ramp"}
        ): "read off the growing load, which offers each for one second; so there are no ratios",
        frozenset(
            {"search"}
        ): f"found by trying rates that are {report['options']['search_step']:g} times apart",
    }.get(frozenset(ways), "found in different ways")
    parts = [
        _highest_verdict(report, name, each)
        for name, each in report["summary"]["comparisons"].items()
        if name in rows
    ]
    return _sentence(f"The rates are {how}", parts) if rows else ""


def _highest_verdict(report: Mapping[str, Any], name: str, each: Mapping[str, Any]) -> str:
    rows = report["summary"]["modes"]
    title = _title(report, name)
    figures = f"{rows['asyncio']['highest_rate_text']} against {rows[name]['highest_rate_text']}"
    if each["ratio"] is not None:
        return f"asyncio carries {each['text']} the rate of {title} ({figures})"
    if each["relation"] == SAME:
        return f"asyncio and {title} do not differ beyond the grid of rates ({figures})"
    if each["relation"] == UNDECIDED:
        return f"asyncio and {title} cannot be told apart ({figures}): {each['why']}"
    return f"asyncio carries {each['relation']} than {title} ({figures}), without a ratio: {each['why']}"


def comparisons(rates: Mapping[str, Rate], *, quick: bool) -> dict[str, Any]:
    """asyncio's highest rate against that of each other mode, by the other's name."""
    if "asyncio" not in rates:
        return {}
    found = {
        name: compare_rates(rates["asyncio"], rate, quick=quick)
        for name, rate in rates.items()
        if name != "asyncio"
    }
    return {name: {**asdict(each), "text": each.times} for name, each in found.items()}


def figures_of(report: Mapping[str, Any], key: str) -> dict[str, Figure]:
    """A figure of all modes that have it, by mode."""
    rows = report["summary"]["modes"]
    return {name: row["figures"][key] for name, row in rows.items() if row["figures"].get(key)}


def _title(report: Mapping[str, Any], name: str) -> str:
    title: str = report["modes"][name]["title"]
    return title


def _listed(report: Mapping[str, Any], found: Mapping[str, Figure]) -> str:
    return ", ".join(f"{_title(report, name)} {each['text']}" for name, each in found.items())


def _sentence(beginning: str, parts: list[str]) -> str:
    rest = "; ".join(parts)
    return f"{beginning}. {rest[0].upper()}{rest[1:]}." if rest else f"{beginning}."
