"""The times of a time series: full hours up to seven days, full days (UTC) above, and the interval's end."""

from __future__ import annotations

from dataclasses import dataclass

from optimizely_api.services.results.query.questions import Question
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import HOUR_MILLISECONDS

MAX_POINTS = 500
# Of all variants and metrics together; 12 MB of JSON at most. The gateway takes 16 MiB (`upstream_answer_bytes`).
MAX_DATAPOINTS = 30_000
HOURLY_MILLISECONDS = 7 * DAY_MILLISECONDS


@dataclass(frozen=True)
class Points:
    """All points but the last: `count` multiples of `spacing` after slot `first`, in milliseconds.

    Slot n is the time from n * spacing to (n + 1) * spacing. The point at its end includes it.
    """

    spacing: int
    first: int
    count: int

    @property
    def times(self) -> list[int]:
        """The points' times, in milliseconds since 1970."""
        return [(self.first + number) * self.spacing for number in range(1, self.count + 1)]

    @property
    def are_days(self) -> bool:
        """Whether each point is the end of a day (UTC)."""
        return self.spacing % DAY_MILLISECONDS == 0


def choose_points(question: Question, start: int, end: int) -> Points:
    """The points between start and end; hours or days are left out evenly where there would be too many."""
    series = max(1, len(question.variations) * len(question.metrics))
    most = min(MAX_POINTS, max(2, MAX_DATAPOINTS // series)) - 1  # one is the end
    unit = HOUR_MILLISECONDS if end - start <= HOURLY_MILLISECONDS else DAY_MILLISECONDS
    spacing = unit * max(1, -(-(end - start) // (unit * most)))
    first = start // spacing
    return Points(spacing, first, max(0, -(-end // spacing) - first - 1))
