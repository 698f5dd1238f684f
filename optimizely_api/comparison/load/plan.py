"""The plan of a load: phases with a rate, and the due time of each request. No IO."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

SLICE_SECONDS = 1.0
ARRIVALS = ("constant", "poisson")


class InvalidPlan(ValueError):
    """The load cannot be offered; the message tells the user why."""


class Span(NamedTuple):
    """A part of the load with one rate, at most one second long; times are seconds since the measurement began.

    `phase` is -1 in the warm-up, whose times are negative.
    """

    start: float
    end: float
    rate: float
    phase: int


@dataclass(frozen=True)
class LoadPlan:
    """An open load: the due times of requests do not depend on the responses.

    `phases` are (requests per second, seconds), in order. The warm-up has the first phase's rate and is not measured.
    `constant` arrivals lie in the middle of equal intervals; `poisson` arrivals have exponential gaps drawn from
    `seed`. `paths` are requested in turn. A request without a response `timeout_seconds` after its due time has failed.
    The plan fails (`fell_behind`) when the requests sent differ by more than 1 % from those due, or when more than 1 %
    were sent over `lag_bound_ms` late.
    """

    url: str
    phases: Sequence[tuple[float, float]]
    paths: Sequence[str] = ("/",)
    headers: Mapping[str, str] = field(default_factory=dict)
    warm_up_seconds: float = 0.0
    timeout_seconds: float = 10.0
    connections: int = 10_000
    arrivals: str = "constant"
    seed: int = 1
    lag_bound_ms: float = 50.0

    def __post_init__(self) -> None:
        self._check_url()
        if not self.phases or not all(0 < number < math.inf for phase in self.phases for number in phase):
            raise InvalidPlan("a load needs phases, each with a rate and a duration above 0 and finite")
        if not self.paths or any(not _is_path(path) for path in self.paths):
            raise InvalidPlan("a load needs paths, each beginning with / and without spaces")
        if any(set(f"{name}{value}") & {"\r", "\n"} for name, value in self.headers.items()):
            raise InvalidPlan("a header cannot hold a line break")
        if self.arrivals not in ARRIVALS:
            raise InvalidPlan(f"arrivals are {' or '.join(ARRIVALS)}, not {self.arrivals}")
        if self.timeout_seconds <= 0 or self.connections < 1 or self.warm_up_seconds < 0:
            raise InvalidPlan("timeout and connections must be above 0, the warm-up not below")

    def _check_url(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise InvalidPlan(f"{self.url}: the server's address is http://host:port, without a path")

    @property
    def seconds(self) -> float:
        """The duration of all phases, without the warm-up."""
        return sum(seconds for _, seconds in self.phases)

    def spans(self) -> list[Span]:
        """The warm-up and the phases, cut into seconds; a phase's last span may be shorter than one."""
        spans = list(_cut(-self.warm_up_seconds, self.warm_up_seconds, self.phases[0][0], -1))
        start = 0.0
        for phase, (rate, seconds) in enumerate(self.phases):
            spans += _cut(start, seconds, rate, phase)
            start += seconds
        return spans

    def due_times(self) -> Iterator[tuple[float, int]]:
        """(when a request is due, the index of its span), in order."""
        return self._poisson() if self.arrivals == "poisson" else self._constant()

    def _constant(self) -> Iterator[tuple[float, int]]:
        begun, phase, number = 0.0, None, 0
        for index, span in enumerate(self.spans()):
            if span.phase != phase:
                begun, phase, number = span.start, span.phase, 0
            while (due := begun + (number + 0.5) / span.rate) < span.end:
                yield due, index
                number += 1

    def _poisson(self) -> Iterator[tuple[float, int]]:
        gaps = random.Random(self.seed)  # noqa: S311
        for index, span in enumerate(self.spans()):
            # Exponential gaps have no memory: with a new start in each span the arrivals are still Poisson.
            due = span.start + gaps.expovariate(span.rate)
            while due < span.end:
                yield due, index
                due += gaps.expovariate(span.rate)

    def requests(self) -> list[bytes]:
        """The HTTP/1.1 requests to send in turn, one per path."""
        host = urlsplit(self.url).netloc
        headers = {"Host": host, "Accept": "application/json", **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return [f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") for path in self.paths]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise InvalidPlan(f"a load has no {', '.join(unknown)}")
        phases = tuple((float(rate), float(seconds)) for rate, seconds in value["phases"])
        return cls(**{**value, "phases": phases, "paths": tuple(value.get("paths", ("/",)))})


def _cut(start: float, seconds: float, rate: float, phase: int) -> Iterator[Span]:
    count = math.ceil(round(seconds / SLICE_SECONDS, 9))
    for number in range(count):
        end = seconds if number == count - 1 else (number + 1) * SLICE_SECONDS
        yield Span(start + number * SLICE_SECONDS, start + end, rate, phase)


def _is_path(path: str) -> bool:
    return path.startswith("/") and path.isascii() and path.isprintable() and " " not in path
