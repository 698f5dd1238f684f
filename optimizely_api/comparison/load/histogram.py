"""Counts latencies in buckets of 0.1 % width: the layout of HdrHistogram with three significant digits.

Each microsecond up to 2,047 has its own bucket; above, every power of two is split into 1,024 buckets. Recording is one
dictionary update. Histograms of seconds, phases and processes add up without loss.

Not the package hdrhistogram: it needs setuptools 83 or later, and Pyramid 2.1 needs setuptools below 81 for its
pkg_resources.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

SUB_BUCKETS = 1024  # per power of two: a bucket is at most 1/1024 of its value wide
_EXACT_BELOW = 2 * SUB_BUCKETS
_SHIFTED_BITS = SUB_BUCKETS.bit_length()  # the significant bits of a value in its bucket
_TOLERANCE = 1e-9  # rank 999 is 99.9 % of 1,000 in spite of floating-point errors


class Histogram:
    """Counts of latencies; recorded in microseconds, read in milliseconds."""

    __slots__ = ("_counts", "count", "max_us", "min_us", "sum_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.sum_us = 0
        self.min_us = 0
        self.max_us = 0

    def record_us(self, value: int, times: int = 1) -> None:
        """Count a latency of `value` microseconds; one below 0 counts as 0."""
        value = max(value, 0)
        index = _index(value)
        self._counts[index] = self._counts.get(index, 0) + times
        self.min_us = value if not self.count else min(self.min_us, value)
        self.max_us = max(self.max_us, value)
        self.count += times
        self.sum_us += value * times

    def merge(self, other: "Histogram") -> None:
        """Add the counts of the other histogram to this one."""
        if not other.count:
            return
        for index, times in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + times
        self.min_us = min(self.min_us, other.min_us) if self.count else other.min_us
        self.max_us = max(self.max_us, other.max_us)
        self.count += other.count
        self.sum_us += other.sum_us

    @classmethod
    def merged(cls, histograms: Iterable["Histogram"]) -> Self:
        """A new histogram with the counts of all given ones."""
        total = cls()
        for histogram in histograms:
            total.merge(histogram)
        return total

    def percentile(self, percent: float) -> float | None:
        """The latency in ms that `percent` of all did not exceed (nearest rank); None for an empty histogram.

        It is the upper end of its bucket: at most 0.1 % too high, never too low and never above the maximum.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is between 0 and 100, not {percent}")
        if not self.count:
            return None
        rank = max(1, math.ceil(percent * self.count / 100 - _TOLERANCE))
        cumulated = 0
        for index in sorted(self._counts):
            cumulated += self._counts[index]
            if cumulated >= rank:
                return min(_highest(index), self.max_us) / 1000
        raise AssertionError("the buckets add up to less than the count")

    def share_above_ms(self, limit: float) -> float:
        """The share (0 to 1) of latencies in buckets wholly above `limit` ms; 0 for an empty histogram."""
        if not self.count:
            return 0.0
        last = _index(int(limit * 1000))
        return sum(times for index, times in self._counts.items() if index > last) / self.count

    @property
    def max(self) -> float | None:
        """The exact longest latency in ms; None for an empty histogram."""
        return self.max_us / 1000 if self.count else None

    @property
    def min(self) -> float | None:
        """The exact shortest latency in ms; None for an empty histogram."""
        return self.min_us / 1000 if self.count else None

    @property
    def mean(self) -> float | None:
        """The exact mean latency in ms; None for an empty histogram."""
        return self.sum_us / self.count / 1000 if self.count else None

    def buckets_ms(self) -> list[tuple[float, int]]:
        """(upper end in ms, count) of every bucket that is not empty, in order, for a chart."""
        return [(_highest(index) / 1000, times) for index, times in sorted(self._counts.items())]

    def to_json(self) -> dict[str, Any]:
        """The counts; the buckets without the empty ones, each as [upper end in microseconds, count]."""
        return {
            "count": self.count,
            "sum_us": self.sum_us,
            "min_us": self.min_us,
            "max_us": self.max_us,
            "buckets_us": [[_highest(index), times] for index, times in sorted(self._counts.items())],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises ValueError when the buckets do not add up to the count."""
        histogram = cls()
        histogram._counts = {_index(highest): times for highest, times in value["buckets_us"]}
        histogram.count = value["count"]
        histogram.sum_us, histogram.min_us, histogram.max_us = (
            value["sum_us"],
            value["min_us"],
            value["max_us"],
        )
        if sum(histogram._counts.values()) != histogram.count:
            raise ValueError("a histogram's buckets do not add up to its count")
        return histogram

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, p50 {self.percentile(50)} ms, p99 {self.percentile(99)} ms>"


def _index(value: int) -> int:
    if value < _EXACT_BELOW:
        return value
    shift = value.bit_length() - _SHIFTED_BITS
    return shift * SUB_BUCKETS + (value >> shift)


def _highest(index: int) -> int:
    """The highest value of a bucket."""
    if index < _EXACT_BELOW:
        return index
    shift = index // SUB_BUCKETS - 1
    return ((index - shift * SUB_BUCKETS + 1) << shift) - 1
