"""The result of a load: counts and latencies per second, and whether they are fit to be reported. No IO but files.

Every request belongs to the second in which it was due, whenever its response came.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.comparison.load.plan import LoadPlan

TIMEOUT: Final = "timeout"  # no complete response within the time limit, counted from the due time
REFUSED: Final = "refused"  # no connection
RESET: Final = "reset"  # the connection ended before the response was complete
BAD: Final = "bad"  # the response was not HTTP
FAILURES: Final = (TIMEOUT, REFUSED, RESET, BAD)

LATE: Final = "late"  # the generator was more than a second late
NO_CONNECTION: Final = "no_connection"  # all connections that the plan or the system allows were in use

# The status that a load balancer in the generator's place would have sent (RFC 9110 sections 15.6.3 to 15.6.5).
STATUS_OF_FAILURE: Final[Mapping[str, int]] = {TIMEOUT: 504, REFUSED: 503, RESET: 502, BAD: 502}

SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
NOT_WRITTEN: Final = "(not written down)"
LARGEST_DEVIATION = 0.01  # of the number of requests sent from the number due


@dataclass
class Tally:
    """Counts and latencies of the requests due in a period; `add` adds another, `LoadResult.total` has the whole run.

    offered == answered + failed + unsent + unfinished. `sent` is not part of that sum: it counts the requests that left
    during the period, for the achieved rate. `ok` has the latencies of responses from 200 to 299, `other` those of all
    other responses and failures, with the time limit for timeouts.
    """

    offered: int = 0
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    unsent: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    retried: int = 0
    ok: Histogram = field(default_factory=Histogram)
    other: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)

    @property
    def answered(self) -> int:
        return self.statuses.total()

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def succeeded(self) -> int:
        """Responses from 200 to 299."""
        return self.ok.count

    @property
    def latency(self) -> Histogram:
        """The latency of every request with an outcome, good or bad."""
        return Histogram.merged((self.ok, self.other))

    def by_class(self) -> dict[str, int]:
        """Responses by status class: {"2xx": 10, "5xx": 1}."""
        classes: Counter[str] = Counter()
        for status, count in self.statuses.items():
            classes[f"{status // 100}xx"] += count
        return dict(sorted(classes.items()))

    def server_errors(self) -> dict[int, int]:
        """{status: count} of all 5XX: 5XX responses, and failures as the 5XX of a load balancer (STATUS_OF_FAILURE)."""
        errors: Counter[int] = Counter()
        for status, count in self.statuses.items():
            if 500 <= status <= 599:
                errors[status] += count
        for kind, count in self.failures.items():
            errors[STATUS_OF_FAILURE[kind]] += count
        return dict(sorted(errors.items()))

    @property
    def server_error_count(self) -> int:
        return sum(self.server_errors().values())

    def deviates(self) -> bool:
        """Whether the requests sent differ from those due by more than 1 %, and by more than a single one."""
        allowed = max(1, LARGEST_DEVIATION * self.offered)
        return abs(self.sent - self.offered) > allowed or self.unsent.total() > allowed

    def fell_behind(self, lag_bound_ms: float) -> bool:
        """Whether the generator did not keep the rate, so that the figures are not about the server."""
        return self.deviates() or (self.lag.percentile(99) or 0.0) > lag_bound_ms

    def add(self, other: "Tally") -> None:
        self.offered += other.offered
        self.sent += other.sent
        self.statuses.update(other.statuses)
        self.failures.update(other.failures)
        self.unsent.update(other.unsent)
        self.unfinished += other.unfinished
        self.retried += other.retried
        self.ok.merge(other.ok)
        self.other.merge(other.other)
        self.lag.merge(other.lag)

    @classmethod
    def sum(cls, tallies: Iterable["Tally"]) -> Self:
        total = cls()
        for tally in tallies:
            total.add(tally)
        return total

    def to_json(self) -> dict[str, Any]:
        """The counts, the figures computed from them, and the histograms."""
        latency = self.latency
        return {
            "offered": self.offered,
            "sent": self.sent,
            "answered": self.answered,
            "by_class": self.by_class(),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "failures": {kind: self.failures[kind] for kind in FAILURES},
            "server_errors": {str(status): count for status, count in self.server_errors().items()},
            "unsent": {kind: self.unsent[kind] for kind in (LATE, NO_CONNECTION)},
            "unfinished": self.unfinished,
            "retried": self.retried,
            "p50_ms": latency.percentile(50),
            "p99_ms": latency.percentile(99),
            "lag_p99_ms": self.lag.percentile(99),
            "lag_max_ms": self.lag.max,
            "histograms": {
                "ok": self.ok.to_json(),
                "other": self.other.to_json(),
                "lag": self.lag.to_json(),
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        histograms = value["histograms"]
        return cls(
            offered=value["offered"],
            sent=value["sent"],
            statuses=Counter({int(status): count for status, count in value["statuses"].items()}),
            failures=+Counter(value["failures"]),
            unsent=+Counter(value["unsent"]),
            unfinished=value["unfinished"],
            retried=value["retried"],
            ok=Histogram.from_json(histograms["ok"]),
            other=Histogram.from_json(histograms["other"]),
            lag=Histogram.from_json(histograms["lag"]),
        )


@dataclass
class Slice:
    """One second of the load, or the rest of a phase; `start` and `end` are seconds since the measurement began."""

    start: float
    end: float
    rate: float
    phase: int
    tally: Tally = field(default_factory=Tally)

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def to_json(self) -> dict[str, Any]:
        place = {"start": self.start, "end": self.end, "rate": self.rate, "phase": self.phase}
        return {**place, **self.tally.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(value["start"], value["end"], value["rate"], value["phase"], Tally.from_json(value))


@dataclass
class LoadResult:
    """The result of a load, second by second.

    `started_at` is the Unix time at which the measurement (not the warm-up) began. An `interrupted` result ends early:
    its last slice is that of the interruption, and its `offered` counts the requests due until then.
    """

    plan: LoadPlan
    slices: list[Slice]
    warm_up: Tally = field(default_factory=Tally)
    started_at: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    most_connections: int = 0
    interrupted: bool = False

    def total(self) -> Tally:
        """The sum of all slices."""
        return Tally.sum(each.tally for each in self.slices)

    def of_phase(self, phase: int) -> Tally:
        """The sum of one phase, by its index in the plan."""
        return Tally.sum(each.tally for each in self.slices if each.phase == phase)

    def between(self, start: float, end: float) -> Tally:
        """The sum of the slices that lie wholly within these seconds."""
        return Tally.sum(each.tally for each in self.slices if start <= each.start and each.end <= end)

    @property
    def seconds(self) -> float:
        """The duration of the measurement."""
        return sum(each.seconds for each in self.slices)

    @property
    def offered_rate(self) -> float:
        return self.total().offered / self.seconds if self.seconds else 0.0

    @property
    def achieved_rate(self) -> float:
        """Requests per second sent during the measurement."""
        return self.total().sent / self.seconds if self.seconds else 0.0

    @property
    def fell_behind(self) -> bool:
        """Whether the generator did not keep the rate in some phase: then no figure is fit to be reported."""
        return bool(self.why_fell_behind())

    def why_fell_behind(self) -> list[str]:
        """One sentence for each phase in which the generator did not keep the rate."""
        return [
            _why(phase, rate, self.of_phase(phase), self.plan)
            for phase, (rate, _) in enumerate(self.plan.phases)
            if self.of_phase(phase).fell_behind(self.plan.lag_bound_ms)
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": {**self.plan.to_json(), "headers": _without_secrets(self.plan.headers)},
            "started_at": self.started_at,
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "most_connections": self.most_connections,
            "interrupted": self.interrupted,
            "offered_rate": self.offered_rate,
            "achieved_rate": self.achieved_rate,
            "fell_behind": self.fell_behind,
            "why_fell_behind": self.why_fell_behind(),
            "total": self.total().to_json(),
            "warm_up": self.warm_up.to_json(),
            "slices": [each.to_json() for each in self.slices],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            plan=LoadPlan.from_json(value["plan"]),
            slices=[Slice.from_json(each) for each in value["slices"]],
            warm_up=Tally.from_json(value["warm_up"]),
            started_at=value["started_at"],
            wall_seconds=value["wall_seconds"],
            cpu_seconds=value["cpu_seconds"],
            most_connections=value["most_connections"],
            interrupted=value["interrupted"],
        )

    def write(self, path: Path) -> None:
        """Write the result as JSON, atomically: a reader never sees a partial file."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self.to_json()), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.from_json(json.loads(path.read_text(encoding="utf-8")))


def _without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without credentials: results are shared with others."""
    return {name: NOT_WRITTEN if name.lower() in SECRET else value for name, value in headers.items()}


def _why(phase: int, rate: float, tally: Tally, plan: LoadPlan) -> str:
    late, bound = tally.lag.percentile(99) or 0.0, plan.lag_bound_ms
    sentence = (
        f"phase {phase} ({rate:g} requests/s): {tally.sent} requests were sent while {tally.offered} were due"
    )
    if late > bound:
        sentence += f", 1 % of them {late:.0f} ms late or more (at most {bound:g} ms is fit to be reported)"
    if tally.unsent[NO_CONNECTION]:
        sentence += (
            f", {tally.unsent[NO_CONNECTION]} not at all: {plan.connections} connections were not enough"
        )
    return sentence
