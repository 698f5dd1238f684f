"""Requests at a constant rate, whatever the responses, and a writer that repeats a write until it is acknowledged."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from optimizely_api.comparison.load.client import ConnectionPool, Request
from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.comparison.load.response_reader import ResponseReader
from optimizely_api.comparison.load.result import TIMEOUT
from optimizely_api.http.request_ids import new_request_id
from optimizely_api.proof.judge import Judge, Question, Received, Verdict

CONNECTIONS: Final = 5000
TIMEOUT_SECONDS: Final = 5.0  # after the time in which a response should have come
STALL_SECONDS: Final = 0.01
REPEAT_SECONDS: Final = 0.2

Recorder = Callable[[Question, str, float, Received], Verdict]
"""Judges and counts what came back for a request with this id that was sent at this time (`time.monotonic`)."""


class KeepingReader(ResponseReader):
    """Reads responses with their headers and bodies."""

    __slots__ = ("body", "headers")

    def begin(self) -> None:
        super().begin()
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)


class _Asked(Request):
    """A request with its question; `verdict` is set when it has ended."""

    __slots__ = ("question", "request_id", "sent", "timer", "verdict")

    def __init__(self, payload: bytes, question: Question, request_id: str) -> None:
        super().__init__(payload)
        self.question = question
        self.request_id = request_id
        self.sent = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None
        self.verdict: asyncio.Future[tuple[Verdict, Received]] = asyncio.get_running_loop().create_future()


class Caller:
    """Sends questions to one address, and hands what comes back to `record`."""

    def __init__(self, host: str, port: int, judge: Judge, record: Recorder) -> None:
        self._host = f"{host}:{port}"
        self._pool = ConnectionPool(host, port, CONNECTIONS, self._on_outcome, KeepingReader)
        self._longest = judge.longest_seconds + TIMEOUT_SECONDS
        self._record = record
        self._in_flight: set[_Asked] = set()
        self.stalls = Stalls()

    def ask(self, question: Question) -> asyncio.Future[tuple[Verdict, Received]]:
        """Send the question at once; the result comes with its end."""
        request_id = new_request_id()
        asked = _Asked(question.payload(self._host, request_id), question, request_id)
        asked.timer = asyncio.get_running_loop().call_later(self._longest, self._give_up, asked)
        self._in_flight.add(asked)
        self._pool.send(asked)
        return asked.verdict

    async def settle(self) -> None:
        """Wait for the end of every request."""
        while self._in_flight:
            await asyncio.wait([asked.verdict for asked in self._in_flight])

    async def close(self) -> None:
        """Give up what is in flight, uncounted, and close every connection."""
        for asked in list(self._in_flight):
            if asked.timer is not None:
                asked.timer.cancel()
            self._pool.give_up(asked)
            asked.verdict.cancel()
        self._in_flight.clear()
        await self._pool.close()

    def _give_up(self, asked: _Asked) -> None:
        self._pool.give_up(asked)
        self._on_outcome(asked, 0, TIMEOUT)

    def _on_outcome(self, asked: Request, status: int, failure: str) -> None:
        assert isinstance(asked, _Asked)  # noqa: S101
        if asked.timer is not None:
            asked.timer.cancel()
        self._in_flight.discard(asked)
        # A response that waited for this program was in time.
        seconds = max(0.0, time.monotonic() - asked.sent - self.stalls.recent())
        received = _received(asked.response, status, failure, seconds)
        asked.response = None
        verdict = self._record(asked.question, asked.request_id, asked.sent, received)
        asked.verdict.set_result((verdict, received))


def _received(reader: ResponseReader | None, status: int, failure: str, seconds: float) -> Received:
    if isinstance(reader, KeepingReader) and not failure:
        return Received(status, reader.headers, b"".join(reader.body), "", seconds)
    return Received(status, {}, b"", failure, seconds)


class Stalls:
    """How late this program's own event loop was, by a timer; `histogram` has every delay."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._at = time.monotonic()
        self._before = 0.0

    def recent(self) -> float:
        """The longest delay of the present and the previous turn of the timer, in seconds."""
        return max(self._before, time.monotonic() - self._at - STALL_SECONDS, 0.0)

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(STALL_SECONDS)
            self._before = time.monotonic() - self._at - STALL_SECONDS
            self.histogram.record_us(int(self._before * 1e6))


async def ask_at_rate(
    caller: Caller, questions: list[Question], rate: float, requests: int, chance: random.Random
) -> None:
    """Ask this many questions, drawn at random, at equal intervals; returns when the last is sent."""
    began = time.monotonic()
    for number in range(requests):
        wait = began + (number + 0.5) / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        caller.ask(chance.choice(questions))


async def write(
    caller: Caller,
    request_of: Callable[[int], Question],
    acknowledged: Callable[[Question, Received], None],
    stopping: asyncio.Event,
) -> None:
    """Write one thing after the other until `stopping` is set, each by the same request until it is acknowledged."""
    number = 0
    while not stopping.is_set():
        number += 1
        question = request_of(number)
        verdict = None
        while verdict is not Verdict.FRESH:
            verdict, received = await asyncio.shield(caller.ask(question))
            await asyncio.sleep(float(received.headers.get("retry-after", REPEAT_SECONDS)))
        acknowledged(question, received)
