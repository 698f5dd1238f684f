"""Runs a load plan on the running event loop: sends each request when due, counts outcomes, closes connections."""

import asyncio
import resource
import time
from collections import deque
from itertools import cycle
from urllib.parse import urlsplit

from optimizely_api.comparison.load.client import ConnectionPool, Request, resolve
from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import LATE, NO_CONNECTION, TIMEOUT, LoadResult, Slice, Tally

START_SECONDS = 0.02  # from making the schedule to its beginning
LATEST_SECONDS = 1.0  # a request that is later than this is not sent
BURST = 32  # requests sent before the event loop reads responses again
TICK_SECONDS = 0.001  # the resolution of the event loop's timers


class _Due(Request):
    """A request with its due time and its tally."""

    __slots__ = ("due", "tally")

    def __init__(self, payload: bytes, due: float, tally: Tally) -> None:
        super().__init__(payload)
        self.due = due
        self.tally = tally


class LoadRun:
    """One run of a plan; times are those of `time.monotonic`."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        parts = urlsplit(plan.url)
        address = resolve(parts.hostname or "", parts.port or 80)
        self._pool = ConnectionPool(*address, plan.connections, self._on_outcome)
        self._payloads = cycle(plan.requests())
        spans = plan.spans()
        self._slices = [Slice(*span) for span in spans]
        self._due_times = plan.due_times()
        self._next: tuple[float, int] | None = next(self._due_times, None)
        self._waiting: deque[_Due] = deque()  # in the order of their deadlines
        self._in_flight = 0
        self._current = 0  # index of the present slice
        self._interrupted = False
        self._timer: asyncio.Handle | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._zero = time.monotonic() + START_SECONDS - spans[0].start

    async def run(self) -> LoadResult:
        """Send all requests, wait for every response or its time limit, and close every connection."""
        begun, cpu = time.monotonic(), _cpu_seconds()
        started_at = time.time() + self._zero - begun
        try:
            self._schedule(begun)
            await self._over
        finally:
            self._stop_ticking()
            await self._pool.close()
        return LoadResult(
            plan=self._plan,
            slices=self._measured(),
            warm_up=Tally.sum(each.tally for each in self._slices if each.phase < 0),
            started_at=started_at,
            wall_seconds=time.monotonic() - begun,
            cpu_seconds=_cpu_seconds() - cpu,
            most_connections=self._pool.most,
            interrupted=self._interrupted,
        )

    def stop(self) -> None:
        """End now: `run` returns the result so far, and requests in flight count as unfinished."""
        if self._over.done():
            return
        self._interrupted = True
        self._skip_due(time.monotonic())
        for request in self._waiting:
            if not request.done:
                request.tally.unfinished += 1
                self._pool.give_up(request)
        self._waiting.clear()
        self._over.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        try:
            now = time.monotonic()
            self._expire(now)
            self._send_due(now)
            self._schedule(time.monotonic())
        except Exception as exc:
            # A defect of ours: without another tick, `run` would wait for ever.
            if not self._over.done():
                self._over.set_exception(exc)

    def _send_due(self, now: float) -> None:
        sent = 0
        while self._next is not None and sent < BURST:
            offset, index = self._next
            due = self._zero + offset
            if due > now:
                return
            self._next = next(self._due_times, None)
            tally = self._slices[index].tally
            tally.offered += 1
            if now - due > LATEST_SECONDS:
                tally.unsent[LATE] += 1
                continue
            self._send(_Due(next(self._payloads), due, tally))
            sent += 1

    def _skip_due(self, now: float) -> None:
        """Count requests that are due by now and will not be sent."""
        while self._next is not None and self._zero + self._next[0] <= now:
            tally = self._slices[self._next[1]].tally
            tally.offered += 1
            tally.unfinished += 1
            self._next = next(self._due_times, None)

    def _send(self, request: _Due) -> None:
        now = time.monotonic()
        request.tally.lag.record_us(int((now - request.due) * 1e6))
        self._in_flight += 1
        self._waiting.append(request)
        self._pool.send(request)
        if not request.done:
            self._count_sent(now - self._zero)

    def _count_sent(self, moment: float) -> None:
        while self._current < len(self._slices) and self._slices[self._current].end <= moment:
            self._current += 1
        if self._current < len(self._slices):
            self._slices[self._current].tally.sent += 1

    def _expire(self, now: float) -> None:
        while self._waiting:
            request = self._waiting[0]
            if not request.done:
                if request.due + self._plan.timeout_seconds > now:
                    return
                self._pool.give_up(request)
                self._on_outcome(request, 0, TIMEOUT)
            self._waiting.popleft()

    def _schedule(self, now: float) -> None:
        """Tick again at the due time of the next request or the deadline of the oldest, whichever is first."""
        if self._over.done():
            return
        if self._next is None and not self._in_flight:
            self._over.set_result(None)
            return
        moments = []
        if self._next is not None:
            moments.append(self._zero + self._next[0])
        if self._waiting:
            moments.append(self._waiting[0].due + self._plan.timeout_seconds)
        loop = asyncio.get_running_loop()
        wait = min(moments) - now
        if wait <= 0:
            self._timer = loop.call_soon(self._tick)
        else:
            self._timer = loop.call_later(max(wait, TICK_SECONDS), self._tick)

    def _stop_ticking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _on_outcome(self, request: Request, status: int, failure: str) -> None:
        assert isinstance(request, _Due)  # noqa: S101
        self._in_flight -= 1
        tally, latency = request.tally, time.monotonic() - request.due
        tally.retried += request.sent_again
        if failure == NO_CONNECTION:
            tally.unsent[NO_CONNECTION] += 1
        elif failure == TIMEOUT or latency > self._plan.timeout_seconds:
            tally.failures[TIMEOUT] += 1
            tally.other.record_us(int(self._plan.timeout_seconds * 1e6))
        elif failure:
            tally.failures[failure] += 1
            tally.other.record_us(int(latency * 1e6))
        else:
            tally.statuses[status] += 1
            (tally.ok if 200 <= status <= 299 else tally.other).record_us(int(latency * 1e6))
        if not self._in_flight and self._next is None and self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self._tick)

    def _measured(self) -> list[Slice]:
        """The phases' slices; for an interrupted run those that had begun, the last one cut at the interruption."""
        slices = [each for each in self._slices if each.phase >= 0]
        if not self._interrupted:
            return slices
        moment = time.monotonic() - self._zero
        begun = [each for each in slices if each.start < moment]
        if begun:
            begun[-1].end = min(begun[-1].end, moment)
        return begun


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
