"""Which requests an overloaded worker serves: the important ones, and of equally important ones a part that is fair.

Each request has a level, its class first, then its account; up to a cursor, all levels are served. The control follows
DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018), whose cursor moves by a histogram
of the levels that came: down by 5 % of the requests while the queueing time is above a limit, and up by 1 % else.
What differs, since a single worker must find the right level within a second and not within minutes:

- The cursor goes down by more than 5 % when the wait is many times the limit, and not at all while the wait shrinks.
- It goes up by a quarter until what is served is nearly what was too much, and then by 1 %.
- Of the level at the cursor a part is served: with few accounts, a whole level may be most of the load.
- Within a class, an account that asks more has a higher level; of accounts that ask equally much, a hash decides,
  another one each hour.

While nothing waits, requests are neither classified nor counted.
"""

import logging
import statistics
import time
from collections import Counter
from itertools import accumulate

from optimizely_api.serving.lag import Clock

CLASSES = 4
ALWAYS, PEOPLE, ORDINARY, BULK = range(CLASSES)  # the class of a request, the most important one first

PLACES = 128  # levels in a class
SPREAD = 8  # of them for accounts that ask equally much
TOP = CLASSES * PLACES  # a cursor above all levels
SECONDS_OF_A_HASH = 3600

WINDOW_TICKS = 10
FEWEST_TICKS = 3  # so that a single stall, which is no overload, is never the median
LONGEST_WINDOW_SECONDS = 0.25
CALM_WINDOWS = 10  # with everything served, before requests are no longer counted

# How much of each class a worker begins between two ticks, as a multiple of what takes the longest wait to serve: more
# may come at once than the cursor knows of.
AT_ONCE = (float("inf"), 8.0, 2.0, 1.0)
IN_A_BURST = 3  # times as much, while there is no overload yet
FIRST_COST_SECONDS = 0.001  # of CPU for a request, before any was measured
REFUSAL_COST_SECONDS = 0.00002
MOST_REFUSED = 10  # for each request that was served, so that the cost of these is known
NEWEST = 0.5  # the part of the newest measurement in the cost

LEAST_CPU = (
    0.05  # of the time: with less, it is another program that makes the loop wait, and refusals do not help
)
LESS = 0.05  # of what was served, for a wait at the limit; more for a longer one, up to MOST_LESS
MOST_LESS = 0.5
SHRINKING = 0.9  # a wait that falls below this share of itself within a window needs nothing else
MORE, MUCH_MORE = 1.01, 1.25
NEARLY = 0.9  # of the rate that was too much
LOG_SECONDS = 1.0

log = logging.getLogger(__name__)


class Admission:
    """Decides about requests one by one, by the waits of the last window; `sample` feeds it with them.

    `longest_wait_seconds` is what may wait for the event loop in the median of a window; 0 admits everything always.
    """

    def __init__(
        self,
        longest_wait_seconds: float,
        clock: Clock = time.monotonic,
        cpu_clock: Clock = time.process_time,
    ) -> None:
        self.is_watching = False  # whether requests must be asked about
        self.refuses_most = False  # more than half of the last window
        self._limit = longest_wait_seconds
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._cost = FIRST_COST_SECONDS
        self._begun = 0  # requests since the last tick
        self._cursor, self._share = TOP, 1.0  # the level of which only a share is served
        self._credit = 0.0
        self._too_much = float("inf")  # requests a second
        self._calm_windows = 0
        self._is_overloaded = False  # in the last window
        self._places: dict[int, int] = {}
        self._hour = 0
        self._logged_at = clock()
        self._refused = [0] * CLASSES  # since then
        self._begin_window()

    def _begin_window(self) -> None:
        self._began_at, self._cpu_began_at = self._clock(), self._cpu_clock()
        self._waits: list[float] = []
        self._asked: Counter[tuple[int, int]] = Counter()  # requests by class and account
        self._admitted = 0
        self._lowest = ALWAYS  # the class that was served and matters least

    def admits(self, kind: int, account: int, *, is_idle: bool = False) -> bool:
        """Whether to serve a request of the class `kind` by this account; an idle worker serves any."""
        self._asked[kind, account] += 1
        level = self._level(kind, account)
        if is_idle or (self._passes(level) and self._begun * self._cost < self._at_once(kind, level)):
            self._begun += 1
            self._admitted += 1
            if kind > self._lowest:
                self._lowest = kind
            return True
        self._refused[kind] += 1
        return False

    def _level(self, kind: int, account: int) -> int:
        place = self._places.get(account)
        return kind * PLACES + (self._spread(account) if place is None else place)

    def _spread(self, account: int) -> int:
        return hash((account, self._hour)) % SPREAD

    def _at_once(self, kind: int, level: int) -> float:
        """The seconds of CPU that may be begun between two ticks before a request of this level is refused."""
        if self._cursor == TOP:
            return AT_ONCE[kind] * self._limit * (1 if self._is_overloaded else IN_A_BURST)
        # Whoever is below the cursor does not pay for those at it.
        return AT_ONCE[ORDINARY if level == self._cursor else PEOPLE] * self._limit

    def _passes(self, level: int) -> bool:
        if level != self._cursor:
            return level < self._cursor
        self._credit += self._share
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def sample(self, waited_seconds: float) -> None:
        """Take the wait of one tick; at the end of a window, move the cursor."""
        if not self.is_watching:
            if 0 < self._limit < 2 * waited_seconds:
                self.is_watching = True
                self._calm_windows = 0
                self._begin_window()
            return
        self._begun = 0
        if self._waits and min(waited_seconds, self._waits[-1]) > self._limit:
            self._is_overloaded = True  # a single stall would not last
        self._waits.append(waited_seconds)
        ticks, seconds = len(self._waits), self._clock() - self._began_at
        if ticks >= WINDOW_TICKS or (ticks >= FEWEST_TICKS and seconds >= LONGEST_WINDOW_SECONDS):
            self._decide(seconds)
            self._begin_window()

    def _decide(self, seconds: float) -> None:
        wait = statistics.median(self._waits)
        served, rate = max(1, self._admitted), self._admitted / seconds
        arrived = self._asked.total()
        self.refuses_most = 2 * self._admitted < arrived
        cpu, refused = self._cpu_clock() - self._cpu_began_at, arrived - self._admitted
        if refused <= MOST_REFUSED * self._admitted:
            cost = max(0.0, cpu - refused * REFUSAL_COST_SECONDS) / served
            self._cost += NEWEST * (cost - self._cost)
        self._is_overloaded = wait > self._limit or (self._is_overloaded and 2 * wait >= self._limit)
        if wait > self._limit:
            self._calm_windows = 0
            if cpu >= LEAST_CPU * seconds and not self._is_shrinking():
                self._too_much = rate
                self._serve(served * (1 - min(MOST_LESS, LESS * wait / self._limit)))
        elif 2 * wait < self._limit:
            self._serve(served * (MUCH_MORE if rate < NEARLY * self._too_much else MORE))
            self._calm_windows = self._calm_windows + 1 if self._cursor == TOP else 0
        if sum(self._refused) and self._clock() - self._logged_at >= LOG_SECONDS:
            self._log(wait)
        if self._calm_windows >= CALM_WINDOWS:
            self.is_watching = False
            self._too_much = float("inf")

    def _is_shrinking(self) -> bool:
        half = len(self._waits) // 2
        return statistics.median(self._waits[-half:]) < SHRINKING * statistics.median(self._waits[:half])

    def _serve(self, number: float) -> None:
        """Set the cursor so that this many of the window's requests would have been served.

        A class is refused only when nothing of those that matter less was served; the first class never is.
        """
        self._rank_accounts()
        histogram = [0] * TOP
        for (kind, account), asked in self._asked.items():
            histogram[self._level(kind, account)] += asked
        below, least = 0, max(PEOPLE, self._lowest) * PLACES
        for level, upto in enumerate(accumulate(histogram)):
            if upto > number and level >= least:
                self._cursor = level
                self._share = (number - below) / (upto - below) if number > below else 0.0
                return
            below = upto
        self._cursor, self._share = TOP, 1.0

    def _rank_accounts(self) -> None:
        """Give the accounts that asked several times a place by the power of two of how often."""
        self._hour = int(self._clock() // SECONDS_OF_A_HASH)
        totals: Counter[int] = Counter()
        for (_, account), asked in self._asked.items():
            totals[account] += asked
        self._places = {
            account: min(PLACES // SPREAD - 1, asked.bit_length()) * SPREAD + self._spread(account)
            for account, asked in totals.items()
            if asked > 1
        }

    def _log(self, wait: float) -> None:
        log.warning(
            "overloaded: work waits %.0f ms for the event loop; refused since the last such line:"
            " %d of people's requests, %d ordinary ones, %d of bulk",
            1000 * wait,
            *self._refused[PEOPLE:],
        )
        self._logged_at = self._clock()
        self._refused = [0] * CLASSES
