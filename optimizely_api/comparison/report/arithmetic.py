"""Computes the figures of a comparison: classes of 5XX, seconds, and the search for the highest rate. No IO."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.comparison.load.result import BAD, REFUSED, RESET, TIMEOUT, LoadResult, Slice, Tally
from optimizely_api.comparison.rig.balancer import LogLine

# The classes of 5XX by origin and cause, and a class for requests without any response.
GATEWAY = "by the gateway"
NO_RESPONSE = "504, no response in time"
REFUSED_CONNECTION = "503, no connection to the gateway"
QUEUE_FULL = "503, waited too long for a connection"
BROKEN_OFF = "502, the connection broke off"
CUT_SHORT = "502, the response was cut short"
UNANSWERED = "no response at all, the caller gave up"

# Without a balancer: the class of the 5XX that a balancer would have sent.
CLASS_OF_FAILURE = {
    TIMEOUT: NO_RESPONSE,
    REFUSED: REFUSED_CONNECTION,
    RESET: BROKEN_OFF,
    BAD: BROKEN_OFF,
}

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
ROUNDING = 1.01  # two rates of three digits, a step apart, may differ by a little more than the step
WIDEST_STRIDE = 4.0  # the largest factor between two rates that a search tries
LEAST_REQUESTS = {99.0: 100, 99.9: 1000}  # for fewer, such a percentile is merely the slowest request


@dataclass(frozen=True, kw_only=True)
class Second:
    """The requests offered in one second and their outcomes; latencies include good and bad outcomes.

    `p99_ms` is None for fewer than 100 requests. `lost` counts the requests with a 5XX or without a response, `errors`
    the 5XX by class. `fit` is true if the generator kept the rate.
    """

    start: float
    end: float
    rate: float
    offered: int
    good: int
    lost: int
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    fit: bool = True


@dataclass(kw_only=True)
class Measurement:
    """One load and its outcomes, as in the report.

    Each request has one outcome, as seen by its client: `good` requests got a 2XX within the time limit, `lost` ones a
    5XX or no response, `other` counts the rest. `errors` counts the 5XX by class; a request that was sent again may be
    among them twice, or be good in the end. `percentiles_ms` has None where the requests are too few for one.
    `distribution` has (ms, count) of the good responses. `not_fit` has the reasons why the figures are not about the
    gateway; it is empty when they are.
    """

    offered: int
    good: int
    lost: int
    other: dict[str, int]
    errors: dict[str, int]
    counted_by: str
    offered_rate: float
    achieved_rate: float
    percentiles_ms: dict[str, float | None]
    seconds: list[Second]
    distribution: list[tuple[float, int]]
    not_fit: list[str]
    generator: dict[str, Any]
    balancer: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())

    @property
    def error_share(self) -> float:
        """The share of all requests that were lost."""
        return self.lost / self.offered if self.offered else 0.0

    @property
    def slow_ms(self) -> float | None:
        """The p99, or the slowest request where they are too few for a p99."""
        p99 = self.percentiles_ms["99"]
        return self.percentiles_ms["100"] if p99 is None else p99

    def meets(self, objective_ms: float) -> bool:
        """Whether every request got a good response, 99 % of them (of fewer than 100, all) within the objective."""
        return not self.not_fit and self.good == self.offered and (self.slow_ms or math.inf) < objective_ms


def error_class(line: LogLine) -> str | None:
    """Return the class of the 5XX that the client got, by the balancer's log; None if it got none.

    A termination state (HAProxy's configuration manual, section 8.5) of two dashes is a response of the gateway, passed
    on. Otherwise its first letter is the cause (s, S: the server was late or closed the connection; C, c: the client
    gave up and got no response), its second letter the phase: Q in the queue, C connecting, H before the response's
    head, D in its body.

    When the gateway cannot be reached, a later request of a connection gets no response: HAProxy closes the connection
    and the client sends the request again (RFC 9112 section 9.3.1). Only the second one counts.
    """
    cause, moment = line.ended[0], line.ended[1]
    if cause in "Cc" or not line.sent_bytes:
        return None
    if cause in "Ss" and moment in "DL":
        return CUT_SHORT
    if not 500 <= line.status <= 599:
        return None
    if cause == "-":
        return f"{line.status}, {GATEWAY}"
    if moment == "Q":
        return QUEUE_FULL
    if moment == "C":
        return REFUSED_CONNECTION
    return {502: BROKEN_OFF, 503: REFUSED_CONNECTION, 504: NO_RESPONSE}.get(
        line.status, f"{line.status}, by the balancer"
    )


def errors_by_second(lines: Iterable[LogLine], result: LoadResult) -> list[Counter[str]]:
    """Count the log's 5XX by class for each slice of the load, by the time at which a request arrived.

    Requests that arrived before the first slice belong to the warm-up. Requests that arrived after the last one were
    due before its end and sent again.
    """
    errors: list[Counter[str]] = [Counter() for _ in result.slices]
    for line in lines:
        kind = error_class(line)
        index = slice_at(result.slices, line.arrived - result.started_at)
        if kind is not None and index is not None:
            errors[index][kind] += 1
    return errors


def slice_at(slices: Sequence[Slice], moment: float) -> int | None:
    """The index of the slice at a moment: the last slice after its end, None before the first slice."""
    begun = [index for index, each in enumerate(slices) if each.start <= moment]
    return begun[-1] if begun else None


def errors_seen_by_generator(tally: Tally) -> Counter[str]:
    """The 5XX by class without a balancer: 5XX responses, and failures as the 5XX that a balancer would have sent."""
    errors: Counter[str] = Counter()
    for status, count in tally.statuses.items():
        if 500 <= status <= 599:
            errors[f"{status}, {GATEWAY}"] += count
    for kind, count in tally.failures.items():
        errors[CLASS_OF_FAILURE[kind]] += count
    return errors


def measurement(result: LoadResult, lines: Sequence[LogLine] | None) -> Measurement:
    """Combine the generator's result with the balancer's log; `lines` is None without a balancer."""
    if lines is None:
        by_slice = [errors_seen_by_generator(each.tally) for each in result.slices]
    else:
        by_slice = errors_by_second(lines, result)
        for each, errors_of_slice in zip(result.slices, by_slice, strict=True):
            errors_of_slice[UNANSWERED] += each.tally.failed
        by_slice = [+errors_of_slice for errors_of_slice in by_slice]
    total = result.total()
    errors: Counter[str] = sum(by_slice, Counter())
    latency = total.latency
    return Measurement(
        offered=total.offered,
        good=total.succeeded,
        lost=total.server_error_count,
        other=_other(total),
        errors=dict(sorted(errors.items())),
        counted_by="load generator" if lines is None else "load balancer",
        offered_rate=result.offered_rate,
        achieved_rate=result.achieved_rate,
        percentiles_ms={f"{percent:g}": percentile(latency, percent) for percent in PERCENTILES},
        seconds=[
            _second(each, errors, result.plan.lag_bound_ms)
            for each, errors in zip(result.slices, by_slice, strict=True)
        ],
        distribution=_thinned(total.ok.buckets_ms()),
        not_fit=result.why_fell_behind(),
        generator=_generator(result, total),
    )


def percentile(latency: Histogram, percent: float) -> float | None:
    """The percentile in ms; None where too few requests stand behind it."""
    return latency.percentile(percent) if latency.count >= LEAST_REQUESTS.get(percent, 1) else None


def _second(piece: Slice, errors: Counter[str], lag_bound_ms: float) -> Second:
    latency = piece.tally.latency
    return Second(
        start=piece.start,
        end=piece.end,
        rate=piece.rate,
        offered=piece.tally.offered,
        good=piece.tally.succeeded,
        lost=piece.tally.server_error_count,
        errors=dict(sorted(errors.items())),
        p50_ms=latency.percentile(50),
        p99_ms=percentile(latency, 99.0),
        max_ms=latency.max,
        fit=not piece.tally.fell_behind(lag_bound_ms),
    )


def _other(total: Tally) -> dict[str, int]:
    """Counts of outcomes other than good responses, 5XX and missing responses."""
    other = {
        str(status): count
        for status, count in total.statuses.items()
        if not 200 <= status <= 299 and status < 500
    }
    if total.unfinished:
        other["unfinished"] = total.unfinished
    return dict(sorted(other.items()))


def _generator(result: LoadResult, total: Tally) -> dict[str, Any]:
    return {
        "statuses": {str(status): count for status, count in sorted(total.statuses.items())},
        "failures": dict(total.failures),
        "unsent": dict(total.unsent),
        "retried": total.retried,
        "lag_p99_ms": total.lag.percentile(99),
        "lag_max_ms": total.lag.max,
        "most_connections": result.most_connections,
        "cpu_seconds": round(result.cpu_seconds, 3),
        "wall_seconds": round(result.wall_seconds, 3),
        "interrupted": result.interrupted,
    }


def _thinned(buckets: Sequence[tuple[float, int]], at_most: int = 300) -> list[tuple[float, int]]:
    """The same counts in at most this many buckets: a chart shows no more."""
    group_size = max(1, math.ceil(len(buckets) / at_most))
    groups = [buckets[start : start + group_size] for start in range(0, len(buckets), group_size)]
    return [(group[-1][0], sum(count for _, count in group)) for group in groups]


def ramp_rates(first: float, last: float, seconds: int) -> list[float]:
    """A rate for each second, growing by the same factor."""
    if seconds == 1:
        return [last]
    factor = (last / first) ** (1 / (seconds - 1))
    return [round(first * factor**number, 2) for number in range(seconds)]


def is_good(second: Second, objective_ms: float) -> bool:
    """Whether every request of a second was good, 99 % of them (of fewer than 100, all) within the objective."""
    slow_ms = second.max_ms if second.p99_ms is None else second.p99_ms
    return second.good == second.offered and not second.errors and (slow_ms or math.inf) < objective_ms


def highest_in_ramp(seconds: Sequence[Second], objective_ms: float) -> tuple[float, bool]:
    """The highest rate of a ramp up to which every second met the objective without a 5XX; 0 for none.

    The second value is true if the real highest rate may be above it: the ramp ended, or the generator fell behind.
    """
    highest = 0.0
    for second in seconds:
        if not second.fit:
            return highest, True
        if not is_good(second, objective_ms):
            return highest, False
        highest = second.rate
    return highest, True


class RateSearch:
    """Finds the highest rate that holds: widens from a guess until one holds and a higher one does not, then bisects.

        while (rate := search.next_rate()) is not None:
            search.record(rate, holds(rate))

    Steps away from the guess are small at first and grow, so that a guess close to the truth costs few trials. The
    search ends when the two rates differ by at most the factor `step`. `highest` is then the rate that held, or 0 if
    `lowest` did not hold. `reached_limit` is true if `limit` held; then the real highest rate may be above it.
    """

    def __init__(self, guess: float, *, step: float, lowest: float = 0.5, limit: float = 5000.0) -> None:
        self._guess = min(max(guess, lowest), limit)
        self._step = step
        self._stride = step
        self._lowest = lowest
        self._limit = limit
        self.highest = 0.0
        self._failed = math.inf

    @property
    def reached_limit(self) -> bool:
        return self.highest >= self._limit

    def next_rate(self) -> float | None:
        """The rate to try next; None when the search is over."""
        if self.highest == 0.0 and self._failed == math.inf:
            return self._guess
        if self.highest == 0.0:
            return (
                None
                if self._failed <= self._lowest
                else max(self._lowest, rounded_rate(self._failed / self._stride))
            )
        if self._failed == math.inf:
            return None if self.reached_limit else min(self._limit, rounded_rate(self.highest * self._stride))
        if self._failed / self.highest <= self._step * ROUNDING:
            return None
        middle = rounded_rate(math.sqrt(self.highest * self._failed))
        return middle if self.highest < middle < self._failed else None

    def record(self, rate: float, holds: bool) -> None:
        if rate != self._guess:
            self._stride = min(self._stride**2, WIDEST_STRIDE)
        if holds:
            self.highest = max(self.highest, rate)
        else:
            self._failed = min(self._failed, rate)


def rounded_rate(rate: float) -> float:
    """The rate with three significant digits, for tables."""
    return float(f"{rate:.3g}")
