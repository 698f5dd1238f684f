"""Decides from which tables each hour of entry is measured: rollups where possible, else visitor by visitor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from optimizely_api.services.results.query.stretches import Stretch, Timeline, hour_times
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import HOUR_MILLISECONDS

# Beyond this number of separate ranges, one pass over all remaining visitors is cheaper than further ranges.
MAX_RANGES = 50
HOURS_OF_DAY = DAY_MILLISECONDS // HOUR_MILLISECONDS
_CUT = -1  # instead of a stratum's number: the day's visitors do not all count, or not in one stratum


class Source(Enum):
    """The table that an hour of entry is measured from, the cheapest first."""

    CELLS = auto()  # all visitors of the hour count, in one stratum, with everything they did
    TOTALS = auto()  # some visitors of the hour count, with everything they did
    EVENTS = auto()  # some visitors of the hour were active after the interval's end


class HourRange(NamedTuple):
    """Hours of entry, numbered from 1970; both ends are included."""

    first: int
    last: int


@dataclass
class Division:
    """The hours of a stratum by source, neighbours joined: whole hours for CELLS, times of entry for the others."""

    cell_hours: list[HourRange] = field(default_factory=list)
    totals_times: list[Stretch] = field(default_factory=list)
    events_times: list[Stretch] = field(default_factory=list)
    _last: tuple[Source, Stretch] | None = None
    _is_full: bool = False

    def add(self, source: Source, hour: int, times: Stretch, stretch: Stretch) -> None:
        """Measure the visitors who entered at these times of the hour, a part of `stretch`, from `source`."""
        source = self._limited(source, stretch)
        # Joined even if hours lie between the two: nobody entered in these.
        is_joined = self._last == (source, stretch)
        if source is Source.CELLS:
            first = self.cell_hours.pop().first if is_joined else hour
            self.cell_hours.append(HourRange(first, hour))
        else:
            ranges = self.totals_times if source is Source.TOTALS else self.events_times
            start = ranges.pop()[0] if is_joined else times[0]
            ranges.append((start, times[1]))
        self._last = source, stretch

    def _limited(self, source: Source, stretch: Stretch) -> Source:
        """EVENTS, which fit every visitor, once another source would need more than MAX_RANGES; else `source`."""
        if self._is_full or source is Source.EVENTS:
            return Source.EVENTS
        count = len(self.cell_hours if source is Source.CELLS else self.totals_times)
        if count < MAX_RANGES or self._last == (source, stretch):
            return source
        self._is_full = True
        return Source.EVENTS

    @property
    def cell_times(self) -> list[Stretch]:
        """The hours of CELLS as times of entry."""
        return [(hour_times(first)[0], hour_times(last)[1]) for first, last in self.cell_hours]


@dataclass
class Divisions:
    """The division of each stratum, and the days of entry: whole ones, with their stratum, and cut ones."""

    strata: list[Division]
    last_activity: int = 0
    whole_days: dict[int, int] = field(default_factory=dict)  # stratum by day
    cut_days: list[int] = field(default_factory=list)

    @property
    def ranges(self) -> list[tuple[int, int, int]]:
        """Runs of whole days of one stratum as (first day, last day, stratum); days without entries do not end one."""
        ranges: list[tuple[int, int, int]] = []
        last_stratum = None
        for day in sorted([*self.whole_days, *self.cut_days]):
            stratum = self.whole_days.get(day)
            if stratum is not None and stratum == last_stratum:
                ranges.append((ranges.pop()[0], day, stratum))
            elif stratum is not None:
                ranges.append((day, day, stratum))
            last_stratum = stratum
        return ranges

    def cut_times(self, strata: Iterable[Iterable[Stretch]]) -> list[list[Stretch]]:
        """The times of each stratum that lie on cut days."""
        days = [(day * DAY_MILLISECONDS, (day + 1) * DAY_MILLISECONDS) for day in self.cut_days]
        return [
            [
                (max(first, start), min(last, end))
                for first, last in stretches
                for start, end in days
                if max(first, start) < min(last, end)
            ]
            for stretches in strata
        ]


def divide(
    hours: Iterable[tuple[int, int, int]], timeline: Timeline, strata: int, limit: int, *, by_visitor: bool
) -> Divisions:
    """Divide hours of entry, given in order as (number, first entry, last activity).

    With `by_visitor` no hour is measured from CELLS.
    """
    divisions = Divisions([Division() for _ in range(strata)])
    strata_of_day: dict[int, set[int]] = {}
    for hour, first_entered, last_activity in hours:
        divisions.last_activity = max(divisions.last_activity, last_activity)
        start, end = hour_times(hour)
        stratum_of_hour = _CUT
        for number, times, stretch in timeline.within(start, end):
            begins_in_time = times[0] <= max(first_entered, start)
            if begins_in_time and (times[1] == end or last_activity < times[1]):
                stratum_of_hour = number
            if last_activity >= limit:
                source = Source.EVENTS
            elif by_visitor or stratum_of_hour != number:
                source = Source.TOTALS
            else:
                source = Source.CELLS
            divisions.strata[number].add(source, hour, times, stretch)
        strata_of_day.setdefault(hour // HOURS_OF_DAY, set()).add(stratum_of_hour)
    for day, numbers in strata_of_day.items():
        if len(numbers) == 1 and _CUT not in numbers:
            divisions.whole_days[day] = numbers.pop()
        else:
            divisions.cut_days.append(day)
    return divisions
