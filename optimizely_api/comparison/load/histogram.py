"""Latencies counted in buckets of 0.1 % width: the layout of HdrHistogram with three significant digits.

Microseconds up to 2,047 have a bucket each; above, every power of two is split into 1,024. Recording is one dictionary
update, and two histograms add up without loss, so that seconds, phases and processes can be put together later.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

SUB_BUCKETS = 1024  # per power of two: a bucket is at most 1/1024 of its value wide
_EXACT_BELOW = 2 * SUB_BUCKETS
_SHIFTED_BITS = SUB_BUCKETS.bit_length()  # bits of a value that its bucket keeps
_TOLERANCE = 1e-9  # 99.9 % of 1,000 is rank 999, whatever the floating point makes of it


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
        """Add what the other one counted to this one."""
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
        """A new histogram with everything that the given ones counted."""
        whole = cls()
        for histogram in histograms:
            whole.merge(histogram)
        return whole

    def percentile(self, percent: float) -> float | None:
        """The latency in ms that `percent` of all did not exceed (nearest rank); None when nothing was counted.

        It is the upper end of its bucket, so at most 0.1 % too high and never too low, and never above the maximum.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is between 0 and 100, not {percent}")
        if not self.count:
            return None
        rank = max(1, math.ceil(percent * self.count / 100 - _TOLERANCE))
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= rank:
                return min(_highest(index), self.max_us) / 1000
        raise AssertionError("the buckets hold fewer than were counted")

    def share_above_ms(self, limit: float) -> float:
        """The share (0 to 1) of latencies in buckets that lie wholly above `limit` ms; 0 when nothing was counted."""
        if not self.count:
            return 0.0
        last = _index(int(limit * 1000))
        return sum(times for index, times in self._counts.items() if index > last) / self.count

    @property
    def max(self) -> float | None:
        """The longest latency in ms, exactly; None when nothing was counted."""
        return self.max_us / 1000 if self.count else None

    @property
    def min(self) -> float | None:
        """The shortest latency in ms, exactly; None when nothing was counted."""
        return self.min_us / 1000 if self.count else None

    @property
    def mean(self) -> float | None:
        """The mean latency in ms, exactly; None when nothing was counted."""
        return self.sum_us / self.count / 1000 if self.count else None

    def buckets_ms(self) -> list[tuple[float, int]]:
        """(upper end in ms, count) of every bucket that is not empty, in order: the distribution, for a chart."""
        return [(_highest(index) / 1000, times) for index, times in sorted(self._counts.items())]

    def to_json(self) -> dict[str, Any]:
        """Only the buckets that are not empty, each as [its upper end in microseconds, count]."""
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
