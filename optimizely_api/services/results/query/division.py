"""How the hours of entry are read: from the rollups where an hour counts as a whole, else visitor by visitor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from optimizely_api.services.results.query.stretches import Stretch, Timeline, slot_times
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import SLOT_MILLISECONDS

# After more separate stretches of hours than this, one pass over all later visitors is cheaper than many.
MAX_STRETCHES = 50
SLOTS_OF_DAY = DAY_MILLISECONDS // SLOT_MILLISECONDS
_CUT = -1  # instead of a stratum's number: the day's visitors do not all count, or not in one stratum


@dataclass
class Division:
    """The hours of a stratum, neighbours of one kind joined: slots to read from the rollups, times for the rest."""

    slots: list[Stretch] = field(default_factory=list)  # of slots, both included
    # Nobody who entered then did anything after the interval's end: the visitors' totals can be used.
    settled: list[Stretch] = field(default_factory=list)
    cut: list[Stretch] = field(default_factory=list)
    _last: tuple[list[Stretch], Stretch] | None = None
    _is_full: bool = False

    def add(self, kind: list[Stretch], slot: int, times: Stretch, stretch: Stretch) -> None:
        """Read these times of the slot, a part of `stretch`, in this way."""
        if self._is_full:
            kind = self.cut
        is_joined = self._last is not None and self._last[0] is kind and self._last[1] == stretch
        if not is_joined and len(kind) >= MAX_STRETCHES and kind is not self.cut:
            self._is_full, kind = True, self.cut
            is_joined = self._last is not None and self._last[0] is kind and self._last[1] == stretch
        added = (slot, slot) if kind is self.slots else times
        if is_joined:  # between two slots that follow each other here, nobody entered
            added = (kind.pop()[0], added[1])
        kind.append(added)
        self._last = kind, stretch

    @property
    def slot_times(self) -> list[Stretch]:
        """The slots as times of entry."""
        return [(slot_times(first)[0], slot_times(last)[1]) for first, last in self.slots]


@dataclass
class Divisions:
    """The division of each stratum, and which stratum the visitors of each day of entry belong to as a whole."""

    strata: list[Division]
    last_activity: int = 0
    whole_days: dict[int, int] = field(default_factory=dict)  # stratum by day
    cut_days: list[int] = field(default_factory=list)

    @property
    def ranges(self) -> list[tuple[int, int, int]]:
        """First and last day, and the stratum, of whole days that follow one another among the days with entries."""
        found: list[tuple[int, int, int]] = []
        before = None
        for day in sorted([*self.whole_days, *self.cut_days]):
            number = self.whole_days.get(day)
            if number is not None and number == before:
                found.append((found.pop()[0], day, number))
            elif number is not None:
                found.append((day, day, number))
            before = number
        return found

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
    slots: Iterable[tuple[int, int, int]], timeline: Timeline, strata: int, limit: int, *, by_visitor: bool
) -> Divisions:
    """Divide slots (number, first entry, last activity), in order; `by_visitor` uses no rollups."""
    divisions = Divisions([Division() for _ in range(strata)])
    days: dict[int, set[int]] = {}
    for slot, first_entered, last_activity in slots:
        divisions.last_activity = max(divisions.last_activity, last_activity)
        start, end = slot_times(slot)
        whole = _CUT
        for number, times, stretch in timeline.within(start, end):
            division = divisions.strata[number]
            is_begun = times[0] <= max(first_entered, start)
            if is_begun and (times[1] == end or last_activity < times[1]):
                whole = number
            if last_activity >= limit:
                kind = division.cut
            else:
                kind = division.settled if by_visitor or whole != number else division.slots
            division.add(kind, slot, times, stretch)
        days.setdefault(slot // SLOTS_OF_DAY, set()).add(whole)
    for day, numbers in days.items():
        if len(numbers) == 1 and _CUT not in numbers:
            divisions.whole_days[day] = numbers.pop()
        else:
            divisions.cut_days.append(day)
    return divisions
