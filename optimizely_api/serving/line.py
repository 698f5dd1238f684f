"""The requests that wait to begin: the most important ones first, and of equally important ones the accounts in turn.

A start-time fair queue for each class: the more requests of an account wait, the later is the place of its next one. An
account with a thousand requests does not hold up one with a single request.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, Protocol

CLASSES = 5
# The class of a request, the most important one first.
ALWAYS, EVENTS, PEOPLE, ORDINARY, BULK = range(CLASSES)

# Of those that leave the line, one in so many is no batch of events, if others wait: a flood of events, which takes no
# token, leaves something for people.
EVENTS_IN_A_ROW = 3
NOBODY = 0.0, 0


class Waiting(Protocol):
    """A request in the line. One of the two is called at the end, unless it leaves the line by itself."""

    def begin(self) -> None: ...
    def refuse(self) -> None: ...


class Place(NamedTuple):
    """A place in the line; less is earlier."""

    kind: int
    finish: float  # virtual finish time
    number: int
    account: int
    since: float
    request: Waiting


class Line:
    """Requests in the order in which they are to begin."""

    __slots__ = (
        "_accounts",
        "_counts",
        "_events_in_a_row",
        "_numbers",
        "_places",
        "_served",
        "_since",
        "_waiting",
    )

    def __init__(self) -> None:
        self._counts = [0] * CLASSES
        self._since = [0.0] * CLASSES  # when none of the class waited
        self._waiting: list[Place] = []
        self._places: dict[Waiting, Place] = {}  # the oldest first
        # Of each account in the line: the virtual finish time of its last request, and how many wait.
        self._accounts: dict[tuple[int, int], tuple[float, int]] = {}
        # The virtual finish time of the last request of each class that began.
        self._served = [0.0] * CLASSES
        self._events_in_a_row = 0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Place]:
        """The oldest first."""
        return iter(self._places.values())

    @property
    def events(self) -> int:
        """How many batches of events wait."""
        return self._counts[EVENTS]

    @property
    def without_events(self) -> int:
        """How many requests wait that are no batches of events."""
        return len(self._waiting) - self._counts[EVENTS]

    @property
    def last_kind(self) -> int:
        """The class of the last request in the line, which is not empty."""
        return self._waiting[-1].kind

    def seconds_of(self, kind: int, now: float) -> float:
        """For how long there have been requests of this class in the line, not always the same ones."""
        return now - self._since[kind] if self._counts[kind] else 0.0

    def is_last(self, kind: int, account: int) -> bool:
        """Whether a request of this class and account would be the last in the line."""
        if not self._waiting:
            return True
        last = self._waiting[-1]
        return (kind, self._finish(kind, account)) >= (last.kind, last.finish)

    def add(self, kind: int, account: int, now: float, request: Waiting) -> None:
        if not self._counts[kind]:
            self._since[kind] = now
        self._counts[kind] += 1
        finish = self._finish(kind, account)
        _, waiting = self._accounts.get((kind, account), NOBODY)
        self._accounts[kind, account] = finish, waiting + 1
        place = Place(kind, finish, next(self._numbers), account, now, request)
        self._places[request] = place
        insort(self._waiting, place)

    def next(self) -> Waiting:
        """Take the request that is to begin out of the line, which is not empty."""
        index = 0
        if self._waiting[0].kind == EVENTS:
            self._events_in_a_row += 1
            if self._events_in_a_row > EVENTS_IN_A_ROW:
                index = bisect_left(self._waiting, (PEOPLE,)) % len(self._waiting)
        if index or self._waiting[0].kind != EVENTS:
            self._events_in_a_row = 0
        place = self._waiting[index]
        self._served[place.kind] = place.finish
        return self._take_out(index)

    def drop_last(self) -> Waiting:
        """Take the last request out of the line, which is not empty."""
        return self._drop(len(self._waiting) - 1)

    def drop(self, request: Waiting) -> None:
        """Take a request out of the line, if it is in it."""
        place = self._places.get(request)
        if place is not None:
            self._drop(bisect_left(self._waiting, place))

    def _drop(self, index: int) -> Waiting:
        place = self._waiting[index]
        key = place.kind, place.account
        last, waiting = self._accounts[key]
        if last == place.finish:  # it has used nothing of its account's turn
            self._accounts[key] = last - 1, waiting
        return self._take_out(index)

    def _take_out(self, index: int) -> Waiting:
        place = self._waiting.pop(index)
        del self._places[place.request]
        self._counts[place.kind] -= 1
        key = place.kind, place.account
        last, waiting = self._accounts[key]
        if waiting == 1:
            del self._accounts[key]
        else:
            self._accounts[key] = last, waiting - 1
        return place.request

    def _finish(self, kind: int, account: int) -> float:
        last, _ = self._accounts.get((kind, account), NOBODY)
        return max(self._served[kind], last) + 1
