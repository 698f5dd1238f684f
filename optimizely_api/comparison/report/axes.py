"""The axes of a chart: where a value is drawn, and the numbers beside the axis. Knows no report."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0)
MOST_TICKS = 7

Words = Callable[[float], str]


def number_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


@dataclass(frozen=True)
class Tick:
    """A number beside an axis, and its coordinate."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The values from `first` to `last`, drawn from the coordinate `start` to `end`.

    A value outside is drawn at the nearer end.
    """

    title: str
    first: float
    last: float
    start: float
    end: float
    is_logarithmic: bool = False
    words: Words = number_text

    def at(self, value: float) -> float:
        value = min(max(value, self.first), self.last)
        if self.is_logarithmic:
            share = math.log(value / self.first) / math.log(self.last / self.first)
        else:
            share = (value - self.first) / (self.last - self.first)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = MOST_TICKS) -> list[Tick]:
        values = self._powers(most) if self.is_logarithmic else self._multiples(most)
        return [Tick(self.at(value), self.words(value)) for value in values]

    def _multiples(self, most: int) -> list[float]:
        step = next(step for step in _steps() if (self.last - self.first) / step <= most)
        least = math.ceil(self.first / step - 1e-9)
        return [number * step for number in range(least, math.floor(self.last / step + 1e-9) + 1)]

    def _powers(self, most: int) -> list[float]:
        first, last = (math.floor(math.log10(value)) for value in (self.first, self.last))
        powers = range(first, last + 1)
        with_steps = self._within(step * 10.0**power for power in powers for step in STEPS)
        if len(with_steps) <= most:
            return with_steps
        return self._within(10.0**power for power in powers[:: math.ceil(len(powers) / most)])

    def _within(self, values: Iterable[float]) -> list[float]:
        return [value for value in values if self.first * 0.999 <= value <= self.last * 1.001]


def linear(
    title: str, values: Iterable[float], start: float, end: float, *, words: Words | None = None
) -> Axis:
    """An axis from zero to a round number at or above all values."""
    most = max(values, default=0.0) or 1.0
    step = next(step for step in _steps() if most / step <= MOST_TICKS)
    last = math.ceil(most / step - 1e-9) * step
    return Axis(title=title, first=0.0, last=last, start=start, end=end, words=words or number_text)


def logarithmic(
    title: str, values: Iterable[float], start: float, end: float, *, words: Words | None = None
) -> Axis:
    """A logarithmic axis between round numbers that enclose all values above zero."""
    above_zero = [value for value in values if value > 0] or [1.0]
    first, last = _round_below(min(above_zero)), _round_above(max(above_zero))
    if first == last:
        last = first * 10
    return Axis(
        title=title,
        first=first,
        last=last,
        start=start,
        end=end,
        is_logarithmic=True,
        words=words or number_text,
    )


def _steps() -> Iterable[float]:
    power = -3
    while True:
        for step in STEPS:
            yield float(f"{step * 10.0**power:g}")
        power += 1


def _round_below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in STEPS if step * power <= value * (1 + 1e-9))


def _round_above(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(step * power for step in (*STEPS, 10.0) if step * power >= value * (1 - 1e-9))
