"""The requests that wait to begin: the most important ones first, and of equally important ones the accounts in turn.

A start-time fair queue for each class: the more requests of an account wait, the later is the place of its next one. An
account with a thousand requests does not hold up one with a single request.
"""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, Protocol

CLASSES = 5
# The class of a request, the most important one first.
ALWAYS, EVENTS, PEOPLE, ORDINARY, BULK = range(CLASSES)

# Of those that leave the line, one in so many is no batch of events, if others wait: a flood of events, which takes no
# token, leaves something for people.
EVENTS_IN_A_ROW = 3
FEW = 8  # requests of an account that always begin in the order in which they came


class Waiting(Protocol):
    """A request in the line. One of the two is called at the end, unless it leaves the line by itself."""

    def begin(self) -> None: ...
    def refuse(self) -> None: ...


class Place(NamedTuple):
    """A place in the line, for one of its account's requests; less is earlier."""

    kind: int
    finish: float  # virtual finish time
    number: int
    account: int


class Waiter(NamedTuple):
    """Who waits, and since when."""

    kind: int
    account: int
    since: float
    request: Waiting


Requests = OrderedDict[Waiting, None]  # the oldest first


class Account:
    """What an account has in the line in one class: as many places as requests."""

    __slots__ = ("places", "requests")

    def __init__(self) -> None:
        self.places: deque[Place] = deque()  # the earliest first
        self.requests: Requests = OrderedDict()


class Line:
    """Requests in the order in which they are to begin.

    The places say which account has its turn next. Its oldest request takes the turn; where `newest_first` is true of
    their class, and the account has more than FEW in the line, the newest.
    """

    __slots__ = (
        "_accounts",
        "_counts",
        "_events_in_a_row",
        "_numbers",
        "_places",
        "_served",
        "_since",
        "_waiters",
        "newest_first",
    )

    def __init__(self) -> None:
        self.newest_first = [False] * CLASSES  # for each class
        self._counts = [0] * CLASSES
        self._since = [0.0] * CLASSES  # when none of the class waited
        self._places: list[Place] = []
        self._waiters: dict[Waiting, Waiter] = {}  # the oldest first
        self._accounts: dict[tuple[int, int], Account] = {}
        # The virtual finish time of the last request of each class that began.
        self._served = [0.0] * CLASSES
        self._events_in_a_row = 0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Waiter]:
        """The oldest first."""
        return iter(self._waiters.values())

    @property
    def events(self) -> int:
        """How many batches of events wait."""
        return self._counts[EVENTS]

    @property
    def without_events(self) -> int:
        """How many requests wait that are no batches of events."""
        return len(self._places) - self._counts[EVENTS]

    @property
    def last_kind(self) -> int:
        """The class of the last place in the line, which is not empty."""
        return self._places[-1].kind

    def seconds_of(self, kind: int, now: float) -> float:
        """For how long there have been requests of this class in the line, not always the same ones."""
        return now - self._since[kind] if self._counts[kind] else 0.0

    def is_passed_over(self, waiter: Waiter) -> bool:
        """Whether newer requests of its account and class are to begin before it."""
        requests = self._accounts[waiter.kind, waiter.account].requests
        return self._takes_newest(waiter.kind, requests) and next(reversed(requests)) is not waiter.request

    def is_last(self, kind: int, account: int) -> bool:
        """Whether a request of this class and account would get the last place in the line."""
        if not self._places:
            return True
        last = self._places[-1]
        return (kind, self._finish(kind, self._accounts.get((kind, account)))) >= (last.kind, last.finish)

    def add(self, kind: int, account: int, now: float, request: Waiting) -> None:
        if not self._counts[kind]:
            self._since[kind] = now
        self._counts[kind] += 1
        held = self._accounts.get((kind, account))
        place = Place(kind, self._finish(kind, held), next(self._numbers), account)
        if held is None:
            held = self._accounts[kind, account] = Account()
        held.places.append(place)
        held.requests[request] = None
        self._waiters[request] = Waiter(kind, account, now, request)
        insort(self._places, place)

    def next(self) -> Waiting:
        """Take the request that is to begin out of the line, which is not empty."""
        index = 0
        if self._places[0].kind == EVENTS:
            self._events_in_a_row += 1
            if self._events_in_a_row > EVENTS_IN_A_ROW:
                index = bisect_left(self._places, (PEOPLE,)) % len(self._places)
        if index or self._places[0].kind != EVENTS:
            self._events_in_a_row = 0
        place = self._places.pop(index)
        self._served[place.kind] = place.finish
        held = self._accounts[place.kind, place.account]
        held.places.popleft()
        request, _ = held.requests.popitem(last=self._takes_newest(place.kind, held.requests))
        self._forget(self._waiters.pop(request))
        return request

    def drop_last(self) -> Waiting:
        """Take the last place out of the line, which is not empty, with the last of its account's requests to begin."""
        place = self._places.pop()
        held = self._accounts[place.kind, place.account]
        held.places.pop()
        request, _ = held.requests.popitem(last=not self._takes_newest(place.kind, held.requests))
        self._forget(self._waiters.pop(request))
        return request

    def takes_newest(self, kind: int, account: int) -> bool:
        """Whether the newest of an account's requests of a class is the next of them to begin."""
        held = self._accounts.get((kind, account))
        return held is not None and self._takes_newest(kind, held.requests)

    def drop_oldest(self, kind: int, account: int) -> Waiting:
        """Take the oldest request of an account that waits out of the line."""
        request = next(iter(self._accounts[kind, account].requests))
        self.drop(request)
        return request

    def drop(self, request: Waiting) -> None:
        """Take a request out of the line, if it is in it; its account loses its last place."""
        waiter = self._waiters.pop(request, None)
        if waiter is None:
            return
        held = self._accounts[waiter.kind, waiter.account]
        del held.requests[request]
        del self._places[bisect_left(self._places, held.places.pop())]
        self._forget(waiter)

    def _takes_newest(self, kind: int, requests: Requests) -> bool:
        return self.newest_first[kind] and len(requests) > FEW

    def _forget(self, waiter: Waiter) -> None:
        self._counts[waiter.kind] -= 1
        key = waiter.kind, waiter.account
        if not self._accounts[key].places:
            del self._accounts[key]

    def _finish(self, kind: int, held: Account | None) -> float:
        """The virtual finish time of an account's next place."""
        last = held.places[-1].finish if held is not None else 0.0
        return max(self._served[kind], last) + 1
