"""The rules that choose the report's sentences: what may be stated of measured figures, and what may not. No IO.

A highest rate lies between a rate that held and a higher one that did not; either may be missing. Two rates differ if
these intervals are disjoint. A ratio needs a denominator with both ends, and rates that a search confirmed. Figures
without an interval differ if they differ by more than a spread, which the sentence states.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

SMOKE_TEST = "A smoke test: these measurements are too short for a comparison, and no ratios are quoted."
SPREAD = 0.10  # figures of one run that differ by less are equal
DISTURBING_SHARE = 0.15
MOST_DIGITS = 3
WIDEST = 2.0  # a factor between the two ends of a rate; a wider interval is no basis for a ratio

MORE, LESS, SAME, UNDECIDED = "more", "less", "no difference", "undecided"

# The first and last event of a scenario: its figures are about the time between them.
EVENTS = {
    "slow": ("slow", "well again"),
    "restart": ("restart", "new workers alone"),
    "blocking": ("blocking calls", "none any more"),
}
EVENTFUL = ("ramp", *EVENTS)


@dataclass(frozen=True)
class Rate:
    """A highest rate in requests per second: the highest that held, and the lowest above it that did not.

    `held` is 0 if none held, `failed` infinite if none failed. `confirmed` is true if a search found it.
    """

    held: float
    failed: float
    confirmed: bool

    @property
    def is_bound(self) -> bool:
        """Whether one end is missing, or the two are too far apart to stand for one figure."""
        return self.held <= 0 or self.failed == math.inf or self.failed / self.held > WIDEST

    @property
    def is_lower_bound(self) -> bool:
        return self.failed == math.inf

    @property
    def text(self) -> str:
        """The rate with the digits that the grid of rates carries."""
        if self.held <= 0:
            return f"< {rounded(self.failed, 2, math.ceil):g}/s"
        if self.is_lower_bound:
            return f"≥ {rounded(self.held, 2, math.floor):g}/s"
        carried = digits(self.failed / self.held)
        nearest = rounded(self.held, carried)
        return f"{nearest if nearest < self.failed else rounded(self.held, carried, math.floor):g}/s"


@dataclass(frozen=True)
class Comparison:
    """How one highest rate relates to another. `ratio` is None where none may be quoted; `why` then has the reason."""

    relation: str
    ratio: float | None = None
    is_at_least: bool = False
    why: str = ""

    @property
    def times(self) -> str:
        """The ratio in words, or the relation without one."""
        if self.ratio is None:
            return self.relation
        return f"{'at least' if self.is_at_least else 'about'} {self.ratio:g} times"


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


def share_text(share: float) -> str:
    """A share of requests; 0 % and 100 % only if it is exactly none or all."""
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return f"{share:.1%}"


def highest_rate(outcome: Mapping[str, Any], step: float) -> Rate | None:
    """A mode's highest rate by its search, or by its ramp without one; None if no rate was measured."""
    if search := outcome.get("search"):
        rate = _of_search(search, step)
    elif ramp := outcome.get("ramp"):
        rate = _of_ramp(ramp)
    else:
        return None
    return rate if rate.held > 0 or rate.failed < math.inf else None


def _of_search(search: Mapping[str, Any], step: float) -> Rate:
    held = search["highest_rate"]
    if search["reached_limit"]:
        return Rate(held, math.inf, confirmed=True)
    # A trial whose load was not kept has not failed: it does not limit the rate.
    failed = [
        trial["rate"]
        for trial in search["trials"]
        if trial["rate"] > held and not trial["holds"] and not trial["not_fit"]
    ]
    above = held * step if held and not search["trials"] else math.inf
    return Rate(held, min(failed, default=above), confirmed=True)


def _of_ramp(ramp: Mapping[str, Any]) -> Rate:
    held = ramp["highest_rate"]
    if ramp["reached_limit"]:
        return Rate(held, math.inf, confirmed=False)
    above = [second["rate"] for second in ramp["seconds"] if second["rate"] > held]
    # Without a higher rate, the highest one held in a second and failed in another: it did not hold.
    return Rate(held, min(above), confirmed=False) if above else Rate(0.0, held, confirmed=False)


def compare_rates(rate: Rate, other: Rate, *, quick: bool = False) -> Comparison:
    """The relation of the first rate to the second, and their ratio if one may be quoted."""
    relation = _relation(rate, other)
    if relation == UNDECIDED:
        return Comparison(UNDECIDED, why="the bounds of the two rates overlap")
    if relation == SAME:
        return Comparison(SAME, why="the two rates do not differ beyond the grid of rates")
    if why := _why_no_ratio(rate, other, quick):
        return Comparison(relation, why=why)
    least = rate.held / other.failed
    if rate.is_lower_bound:
        quotient, most = rounded(least, digits(other.failed / other.held), math.floor), math.inf
    else:
        most = rate.failed / other.held
        quotient = rounded(rate.held / other.held, digits(most / least))
    # Too few digits can leave a quotient of 1, or one outside the bounds of the true one.
    if quotient == 1 or not quotient < most or (quotient < least and not rate.is_lower_bound):
        return Comparison(relation, why="the digits that the grid carries do not tell the ratio")
    return Comparison(relation, quotient, is_at_least=rate.is_lower_bound)


def _relation(rate: Rate, other: Rate) -> str:
    if rate.held >= other.failed:
        return MORE
    if rate.failed <= other.held:
        return LESS
    return UNDECIDED if rate.is_bound or other.is_bound else SAME


def _why_no_ratio(rate: Rate, other: Rate, quick: bool) -> str:
    if quick:
        return "a smoke test quotes no ratio"
    if not (rate.confirmed and other.confirmed):
        return "a rate read off the growing load was not confirmed"
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


def why_left_out(scenario: str, measured: Mapping[str, Any]) -> list[str]:
    """The reasons why a scenario's figures are not stated; none if they are."""
    reasons = [f"the load generator fell behind: {sentence}" for sentence in measured["not_fit"]]
    if scenario in EVENTS:
        reasons += _outside(measured, *EVENTS[scenario])
    return reasons


def _outside(measured: Mapping[str, Any], first: str, last: str) -> list[str]:
    at = {event["what"]: event["at"] for event in measured["events"]}
    end = measured["seconds"][-1]["end"]
    if first not in at or last not in at:
        return [f"the events `{first}` and `{last}` were not both seen"]
    if at[first] < 0:
        return [f"the event `{first}` came {-at[first]:.1f} s before the measured load"]
    if at[last] > end:
        return [f"it ended (`{last}`) at {at[last]:.2f} s, after the load, which ended at {end:.2f} s"]
    return []


def stated(outcome: Mapping[str, Any], scenario: str) -> Any:
    """A scenario's measurement, or None if it is missing or its figures are not stated."""
    measured = outcome.get(scenario)
    return measured if measured and not why_left_out(scenario, measured) else None


def left_out(modes: Mapping[str, Any]) -> list[str]:
    """A sentence for each measurement whose figures are not stated."""
    sentences = [
        f"{outcome['title']}, {name}: {reason}"
        for outcome in modes.values()
        for name in EVENTFUL
        if outcome.get(name)
        for reason in why_left_out(name, outcome[name])
    ]
    return sentences + [
        f"{outcome['title']}, search: the load generator fell behind at every rate"
        for outcome in modes.values()
        if outcome.get("search") and highest_rate(outcome, 1.0) is None
    ]


def p99_with_and_without(measured: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """The p99 in ms of each second that the scenario's events touch, and of each other second."""
    at = {event["what"]: event["at"] for event in measured["events"]}
    begin, end = (at[what] for what in EVENTS["blocking"])
    during: list[float] = []
    apart: list[float] = []
    for second in measured["seconds"]:
        if second["p99_ms"] is not None:
            touched = second["end"] > begin and second["start"] < end
            (during if touched else apart).append(second["p99_ms"])
    return during, apart


def disturbed(report: Mapping[str, Any]) -> list[str]:
    """A warning if other programs used more than DISTURBING_SHARE of the processors during a measurement."""
    shares = [
        measured["usage"]["others_share"]
        for outcome in report["modes"].values()
        for measured in (*(outcome[name] for name in EVENTFUL if name in outcome), *_trials(outcome))
    ]
    if not shares or max(shares) < DISTURBING_SHARE:
        return []
    return [
        f"Other programs took up to {max(shares):.0%} of the processors while this was measured, {median(shares):.0%} "
        "in the median: the same comparison on a machine that does nothing else has other figures."
    ]


def _trials(outcome: Mapping[str, Any]) -> list[Any]:
    trials: list[Any] = (outcome.get("search") or {}).get("trials", [])
    return trials


def plain_words(report: Mapping[str, Any]) -> list[str]:
    """Sentences on one request alone, on computing and on a view that blocks, with the figures of this run."""
    sentences = [one_words(report), cpu_words(report)]
    if blocked := stated(report["modes"].get("asyncio-blocked", {}), "blocking"):
        sentences.append(blocking_words(blocked))
    return [sentence for sentence in sentences if sentence]


def one_words(report: Mapping[str, Any]) -> str:
    """How long one slow request takes alone, and whether the modes differ in it."""
    measured = _by_mode(report, "one")
    if not measured:
        return ""
    least = next(iter(measured.values()))["least_possible_ms"]
    waiting = f" ({least:g} ms at least is waiting for the upstreams)" if least else ""
    figures = _listed(report, {name: each["median_ms"] for name, each in measured.items()}, "{:.0f} ms")
    verdicts = [
        _one_verdict(report, name, measured["asyncio"], each)
        for name, each in measured.items()
        if name != "asyncio" and "asyncio" in measured
    ]
    return _sentence(f"One slow request alone took {figures}{waiting}", verdicts)


def _one_verdict(
    report: Mapping[str, Any], name: str, one: Mapping[str, Any], other: Mapping[str, Any]
) -> str:
    relation = relation_of(one["median_ms"], other["median_ms"])
    title = _title(report, name)
    if relation == SAME:
        return f"asyncio and {title} do not differ by more than {SPREAD:.0%}"
    quicker, slower = (one, other) if relation == LESS else (other, one)
    if quicker["longest_ms"] >= slower["shortest_ms"]:
        return f"single requests vary too much to tell asyncio and {title} apart"
    return f"asyncio was {'faster' if relation == LESS else 'slower'} than {title}"


def cpu_words(report: Mapping[str, Any]) -> str:
    """How many requests that only compute were answered a second, and whether the modes differ in it."""
    measured = {name: each["answers_per_second"] for name, each in _by_mode(report, "cpu").items()}
    if not measured:
        return ""
    figures = _listed(report, measured, "{:.0f}")
    verdicts = [
        _cpu_verdict(report, name, measured["asyncio"], each)
        for name, each in measured.items()
        if name != "asyncio" and "asyncio" in measured
    ]
    return _sentence(
        f"With {report['options']['cpu_ms']:g} ms of pure Python per request, answers per second were {figures}",
        verdicts,
    )


def _cpu_verdict(report: Mapping[str, Any], name: str, rate: float, other: float) -> str:
    counted = min(rate, other) * report["options"]["cpu_seconds"]
    spread = max(SPREAD, 2 / math.sqrt(counted)) if counted > 0 else math.inf
    if math.isinf(spread):
        return f"too few answers to compare asyncio with {_title(report, name)}"
    relation = relation_of(rate, other, spread)
    if relation == SAME:
        return f"asyncio and {_title(report, name)} do not differ by more than {spread:.0%}"
    return f"asyncio answered {'more' if relation == MORE else 'fewer'} than {_title(report, name)}"


def blocking_words(blocked: Mapping[str, Any]) -> str:
    """What the calls of a view that blocks did to all other requests."""
    share = blocked["blocking_rate"] * blocked["blocking_ms"] / 1000
    return (
        f"A view that blocks: with {blocked['blocking_rate']:g} call a second that sleeps "
        f"{blocked['blocking_ms']:g} ms ({share:.0%} of one worker's time), at {blocked['rate']:g}/s, "
        f"{blocking_verdict(blocked)}. "
        f"The watchdog logged {blocked['watchdog']['stalls']} stalls meanwhile."
    )


def blocking_verdict(blocked: Mapping[str, Any]) -> str:
    """Whether a second with blocking calls had a p99 above that of every second without."""
    during, apart = p99_with_and_without(blocked)
    if not during or not apart:
        return "too few seconds were measured to compare those with such calls with the others"
    above = [p99 for p99 in during if relation_of(p99, max(apart)) == MORE]
    if above:
        return (
            f"the p99 of all other requests rose in {len(above)} of the {len(during)} seconds with such calls, "
            f"to {max(during):.0f} ms at most; in the seconds without it was {max(apart):.0f} ms at most"
        )
    return (
        f"the p99 of all other requests did not rise by more than {SPREAD:.0%}: {max(during):.0f} ms at most in the "
        f"seconds with such calls, {max(apart):.0f} ms at most in those without"
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
        ): f"found by trying rates that are {report['options']['search_step']:g} times apart, and confirmed",
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


def comparisons(modes: Mapping[str, Any], step: float, *, quick: bool) -> dict[str, Any]:
    """asyncio's highest rate against that of each other mode, by the other's name."""
    rates = {name: rate for name, outcome in modes.items() if (rate := highest_rate(outcome, step))}
    if "asyncio" not in rates:
        return {}
    found = {
        name: compare_rates(rates["asyncio"], rate, quick=quick)
        for name, rate in rates.items()
        if name != "asyncio"
    }
    return {
        name: {
            "relation": each.relation,
            "ratio": each.ratio,
            "is_at_least": each.is_at_least,
            "text": each.times,
            "why": each.why,
        }
        for name, each in found.items()
    }


def _by_mode(report: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    return {name: outcome[scenario] for name, outcome in report["modes"].items() if outcome.get(scenario)}


def _title(report: Mapping[str, Any], name: str) -> str:
    title: str = report["modes"][name]["title"]
    return title


def _listed(report: Mapping[str, Any], values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{_title(report, name)} {form.format(value)}" for name, value in values.items())


def _sentence(beginning: str, parts: list[str]) -> str:
    rest = "; ".join(parts)
    return f"{beginning}. {rest[0].upper()}{rest[1:]}." if rest else f"{beginning}."
