"""When an overloaded worker begins a request, and which ones it refuses.

A worker that has more to do than it can begins no more requests than it can work on at a time; the others wait in a
line, unbegun, where one costs nothing but its place. While the worker has room, there is no line, and requests are
neither classified nor counted.

- The room, the number of requests under way, goes down while the event loop is late and its thread never idle, and up
  while the thread is idle at times: a busy one gains nothing from more. Lateness alone says little: on a busy machine
  another program may be its cause. (The signal is the queueing time of Zhou et al., "Overload Control for Scaling
  WeChat Microservices", SoCC 2018, section 4.1.)
- A loop is late only at the end of the turn in which a flood has begun, and all that has begun is worked on. So a
  number of requests under way that more than doubles from one tick to the next is a sign of an overload too.
- An overload is a line that stands: requests of a class have waited all the time for `longest_wait_seconds`. Only then
  are any of that class refused: the last in the line, while it is long (48, or half of the room) and more requests
  come, and those that have waited for twice as long. It is over when none had to be refused for as long. A burst that
  is worked off sooner is served whole: before the line stands, only those are refused before whom so many wait that, at
  the rate of the last responses, they would be refused for their wait in the end. (Nichols and Jacobson, "Controlling
  Queue Delay", ACM Queue 2012.)
- While the line is long, an account with many requests in it is served the newest first. In their order each would wait
  as long as the line is, and the first seconds of an overload would be spent on callers that have given up. In a line
  that is too long, a new one that would be refused takes the place of its account's oldest. While more requests come to
  a line that stands, those that newer ones have passed over are refused soon, but for their account's last eight.
  (Maurer, "Fail at Scale", ACM Queue 2015.)
- Batches of events, which SDKs may not send again, are refused last: they begin first, and only those are refused that
  have waited for ten times as long. But they wait on no more than half of the connections: others are let in too.
"""

import logging
import math
import time
from itertools import takewhile

from optimizely_api.serving.lag import Clock, busy_seconds
from optimizely_api.serving.line import ALWAYS, BULK, CLASSES, EVENTS, ORDINARY, PEOPLE, Line, Waiter, Waiting

CAN_STAND = (PEOPLE, ORDINARY, BULK)
BEGIN, WAIT, REFUSE = range(3)  # what becomes of a request

FEWEST = 16  # requests that are always let be under way
# In the line, before one is refused: with those under way as many as deploy/haproxy.cfg lets a worker have.
FEWEST_WAITING = 48
SPIKE_SECONDS = 0.02  # of lateness, after which there may be a line
MANY_UNDER_WAY = 24  # after these there may be one, if they were half as many at the last tick
LATE_SECONDS = 0.005  # the loop is so late when it has enough to do
SOON_SECONDS = 0.0025
BUSY, COARSE_SECONDS = 0.9, 0.004  # of the time, which the system may tell so late (a tick of its scheduler)
WINDOW_SECONDS = 0.05
FEWEST_TICKS = 3  # of a window
# With a line, before the rate of responses says anything; and those of which it is the mean, the last ones most.
FEWEST_WINDOWS, WINDOWS_OF_A_RATE = 4, 10
SHARPEST_CUT, MILDEST_CUT = 0.5, 0.95
GROWTH = 2  # of the room, at a tick that is on time
# Times the longest wait; the last is for those that newer ones of their account have passed over.
LONGEST_FOR_REQUESTS, LONGEST_FOR_EVENTS, LONGEST_FOR_PASSED_OVER = 2, 10, 0.1
# In one tick, so that the others need not wait for the refusals.
REFUSED_AT_ONCE = 64
# Refusals say 1, 2 or 3, so that those who return do not all come at once.
RETRY_AFTER_SECONDS = 3
CALM_SECONDS = 1.0  # without a line, before requests are no longer counted
LOG_SECONDS = 1.0

log = logging.getLogger(__name__)


class Admission:
    """Lets the requests of one worker begin; `sample` feeds it with the lateness of the event loop.

    A line that stands for `longest_wait_seconds` is an overload; with 0 all requests begin at once, always. At most
    `most_events` batches of events wait.
    """

    def __init__(
        self,
        longest_wait_seconds: float,
        clock: Clock = time.monotonic,
        busy_clock: Clock = busy_seconds,
        *,
        most_events: float = math.inf,
    ) -> None:
        self.is_watching = False  # whether requests must be asked about
        self.refuses_most = False  # more than half of the last window
        self.under_way = 0
        self._sudden = math.inf  # before the next tick, more than so many under way are a sign of an overload
        self._must_shorten = False  # whether a request has come while the line was long
        self._limit, self._most_events = longest_wait_seconds, most_events
        self._clock, self._busy_clock = clock, busy_clock
        self._line = Line()
        self._room = math.inf
        self._begin_judging()
        self._calm_since = self._logged_at = clock()
        self._refused = [0] * CLASSES  # since the last line of the log
        self._begin_window()

    def _begin_judging(self) -> None:
        self._stands, self._refused_at = [False] * CLASSES, [-math.inf] * CLASSES
        self._line_was_long_at = [-math.inf] * CLASSES
        self._windows, self._rate = 0, 0.0  # the rate is that of responses, each second

    def _begin_window(self) -> None:
        self._began_at, self._busy_at = self._clock(), self._busy_clock()
        self._least_late, self._ticks = math.inf, 0
        self._asked = self._turned_away = self._ended = 0

    @property
    def _longest(self) -> float:
        """How many requests may wait in a line that stands, beside batches of events."""
        return max(FEWEST_WAITING, self._room / 2)

    @property
    def _most(self) -> float:
        """How many requests may wait, beside batches of events: those that can begin before it is too late."""
        if self._windows < FEWEST_WINDOWS:
            return math.inf
        return max(self._longest, self._rate * LONGEST_FOR_REQUESTS * self._limit)

    def ask(self, kind: int, account: int, request: Waiting) -> int:
        """Return BEGIN, REFUSE or WAIT; after WAIT the request is in the line."""
        if kind == ALWAYS:
            return BEGIN
        self._asked += 1
        line = self._line
        if not line and self.under_way < self._room:
            return BEGIN
        now = self._clock()
        if kind == EVENTS and line.events >= self._most_events:
            self._count_refusal(kind, now)
            return REFUSE
        if line.without_events >= self._longest:
            self._must_shorten = True
            is_last = line.is_last(kind, account)
            last_kind = kind if is_last else line.last_kind
            self._line_was_long_at[last_kind] = now
            if self._stands[last_kind] or line.without_events >= self._most:
                self._count_refusal(last_kind, now)
                # One that is to begin soon must not be an old one. A line of just this length has a free place whenever
                # a request begins; a longer one has none until it is short.
                makes_room = line.without_events >= self._longest + 1 and line.takes_newest(kind, account)
                if is_last and not makes_room:
                    return REFUSE
                (line.drop_oldest(kind, account) if is_last else line.drop_last()).refuse()
        line.add(kind, account, now, request)
        return WAIT

    def _shorten(self, now: float) -> None:
        """Refuse some at the end of a line that is too long, where who waits is served too late, and others too.

        Only while more requests come: without them a line ends by itself.
        """
        line, self._must_shorten = self._line, False
        for _ in range(REFUSED_AT_ONCE):
            if line.without_events <= self._longest:
                return
            if not self._stands[line.last_kind] and line.without_events <= self._most:
                return
            self._count_refusal(line.last_kind, now)
            line.drop_last().refuse()

    def forget(self, request: Waiting) -> None:
        """Called for a request that waits no more, perhaps since it has begun."""
        self._line.drop(request)

    def begin(self) -> None:
        """Count a request that begins."""
        self.under_way += 1
        if self.under_way > self._sudden and not self.is_watching:
            self._watch()

    def end(self) -> None:
        """Count the end of a request, and let another one begin."""
        self.under_way -= 1
        self._ended += 1
        if self._line:
            self._let_in()

    def _let_in(self) -> None:
        while self._line and self.under_way < self._room:
            self._line.next().begin()

    def sample(self, late_seconds: float) -> None:
        """Take the lateness of the event loop at one tick: change the room, and refuse what has waited too long."""
        if not self._limit:
            return
        self._sudden = max(MANY_UNDER_WAY, 2 * self.under_way)
        if not self.is_watching:
            if late_seconds > SPIKE_SECONDS:
                self._watch()
            return
        now = self._clock()
        self._least_late = min(self._least_late, late_seconds)
        self._ticks += 1
        if self._ticks >= FEWEST_TICKS and now - self._began_at >= WINDOW_SECONDS:
            self._end_window(now)
        elif late_seconds <= SOON_SECONDS and self._is_idle(now):
            self._grow()
        self._find_what_stands(now)
        self._let_in()
        self._refuse_late(now)
        if self._must_shorten:
            self._shorten(now)
        if self._line or late_seconds > SPIKE_SECONDS:
            self._calm_since = now
        elif now - self._calm_since >= CALM_SECONDS:
            self.is_watching = self.refuses_most = False
            self._room = math.inf
        if sum(self._refused) and now - self._logged_at >= LOG_SECONDS:
            self._log(now)

    def _find_what_stands(self, now: float) -> None:
        for kind in CAN_STAND:
            if self._line.seconds_of(kind, now) >= self._limit:
                self._stands[kind] = True
            elif now - self._refused_at[kind] >= self._limit:
                self._stands[kind] = False
            self._line.newest_first[kind] = now - self._line_was_long_at[kind] < self._limit

    def _watch(self) -> None:
        self.is_watching = True
        self._room = max(FEWEST, self.under_way)
        self._calm_since = self._clock()
        self._begin_judging()  # an overload before says nothing about this one
        self._begin_window()

    def _end_window(self, now: float) -> None:
        if self._is_idle(now):
            self._grow()
        elif self._least_late > LATE_SECONDS:
            cut = min(MILDEST_CUT, max(SHARPEST_CUT, LATE_SECONDS / self._least_late))
            self._room = max(FEWEST, cut * min(self._room, self.under_way))
        if not self._line:
            self._windows, self._rate = 0, 0.0  # the next line may be of other requests
        else:
            self._windows += 1
            rate = self._ended / (now - self._began_at)
            self._rate += (rate - self._rate) / min(self._windows, WINDOWS_OF_A_RATE)
        self.refuses_most = 2 * self._turned_away > self._asked
        self._begin_window()

    def _is_idle(self, now: float) -> bool:
        """Whether the event loop's thread has slept at times since the window began.

        Where the system does not tell, a loop that was on time must do for it.
        """
        busy = self._busy_clock() - self._busy_at
        if math.isnan(busy):
            return self._least_late <= LATE_SECONDS
        return busy + COARSE_SECONDS < BUSY * (now - self._began_at)

    def _grow(self) -> None:
        if self._line:
            self._room = GROWTH * self._room + 1

    def _refuse_late(self, now: float) -> None:
        line = self._line
        late: list[Waiter] = []
        soonest = LONGEST_FOR_PASSED_OVER if any(self._stands) else LONGEST_FOR_REQUESTS
        for waiter in tuple(takewhile(lambda waiter: now - waiter.since > soonest * self._limit, line)):
            # Asked after the others were dropped: of an account's last few none has been passed over.
            if now - waiter.since > self._most_seconds(waiter, now):
                line.drop(waiter.request)
                late.append(waiter)
                if len(late) >= REFUSED_AT_ONCE:
                    break
        for waiter in late:
            self._count_refusal(waiter.kind, now)
            waiter.request.refuse()

    def _most_seconds(self, waiter: Waiter, now: float) -> float:
        """How long one in the line may wait."""
        if waiter.kind == EVENTS:
            return LONGEST_FOR_EVENTS * self._limit
        soon = LONGEST_FOR_PASSED_OVER * self._limit
        more_come = self._stands[waiter.kind] and now - self._line_was_long_at[waiter.kind] <= soon
        is_passed_over = more_come and self._line.is_passed_over(waiter)
        return soon if is_passed_over else LONGEST_FOR_REQUESTS * self._limit

    def _count_refusal(self, kind: int, now: float) -> None:
        self._refused_at[kind] = now
        self._refused[kind] += 1
        self._turned_away += 1

    def _log(self, now: float) -> None:
        log.warning(
            "overloaded: %d requests wait and %d are under way; refused since the last such line:"
            " %d batches of events, %d of people's requests, %d ordinary ones, %d of bulk",
            len(self._line),
            self.under_way,
            *self._refused[EVENTS:],
        )
        self._logged_at = now
        self._refused = [0] * CLASSES
