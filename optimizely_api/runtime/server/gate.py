"""Refuse requests at the socket, while the worker is overloaded or one account fills it.

Fast path: a refusal is useful only if it costs a small part of a response. So a request is judged by its bytes, and
refused with bytes that were made before, without llhttp, an environ, a task or Pyramid. To measure:
`python -m tests.benchmark_overload`.
"""

import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from optimizely_api.runtime.authority import split_absolute
from optimizely_api.runtime.bridge import Classifier
from optimizely_api.runtime.refusals import CROSS_ORIGIN, error_body, refusal
from optimizely_api.runtime.server.http1.head import Fields, Head
from optimizely_api.runtime.server.http1.response import date_line, status_line
from optimizely_api.serving.admission import BEGIN, REFUSE, RETRY_AFTER_SECONDS, WAIT, Admission
from optimizely_api.serving.lag import LagMeter
from optimizely_api.serving.line import ALWAYS, BULK, ORDINARY

if TYPE_CHECKING:
    from optimizely_api.runtime.server.protocol import GatewayProtocol
    from optimizely_api.runtime.server.worker import GatewayWorker

LONGEST_LOOK_BYTES = 4 * 1024  # a longer head is parsed first
FEWEST_IN_FLIGHT = 8  # that an account may have, however full the worker is
# How often connections are read again, the log gets a line of a refusal, and the worker looks whether it is half full.
TICKS_OF_A_TURN = 10
OVERLOADED, CROWDED = 503, 429
WAITS = 1  # in the line, where other requests have a status or 0
_AUTHORIZATION = b"\r\nauthorization:"


class Asked(NamedTuple):
    """What a request is judged by; `target` is the path, perhaps with a query."""

    method: bytes
    target: bytes
    authorization: bytes | None


class Look(NamedTuple):
    """What the bytes of a head say at first sight."""

    asked: Asked
    size: int  # of the head, with the empty line
    is_forwarded: bool  # by a proxy, whose connection carries requests of others too


def look_at(data: bytes) -> Look | None:
    """Look at the request at the beginning of `data`; None if it must be parsed before it can be judged or refused.

    What it returns is HTTP/1.1 for a path of this server, without a body, however its fields are spelled, and on a
    connection that stays open: a refusal needs to know nothing else of it.
    """
    end = data.find(b"\r\n\r\n", 0, LONGEST_LOOK_BYTES)
    first = data.find(b"\r\n")
    words = data[:first].split(b" ")
    if end < 0 or len(words) != 3:
        return None
    method, target, version = words
    fields = data[first:end].lower()
    if (
        version != b"HTTP/1.1"
        or target[:1] != b"/"
        or not method.isalpha()
        or b"content-length" in fields
        or b"transfer-encoding" in fields
        or b"x-forwarded-prefix" in fields
        or (b"\r\nconnection" in fields and b"close" in fields)
    ):
        return None
    authorization = None
    if (at := fields.find(_AUTHORIZATION)) >= 0:
        begin = first + at + len(_AUTHORIZATION)
        authorization = data[begin : data.find(b"\r\n", begin)].strip()
    return Look(Asked(method, target, authorization), end + 4, b"forwarded" in fields)


def asked_by(head: Head, prefix: str = "") -> Asked:
    """The same of a head that was parsed; `prefix` is the part of its path that belongs to a proxy."""
    target = head.target
    if target[:1] != b"/" and (absolute := split_absolute(target)) is not None:
        target = absolute[1]
    authorization = next((value for name, value in head.fields if name == b"authorization"), None)
    return Asked(head.method.encode("ascii"), target.removeprefix(prefix.encode("ascii")), authorization)


def is_forwarded(fields: Fields) -> bool:
    """Whether a proxy has passed the request on."""
    return any(name in (b"forwarded", b"x-forwarded-for") for name, _ in fields)


def any_request(method: bytes, path: bytes, authorization: bytes | None) -> tuple[int, int]:
    """The classifier of an application that has none: all requests are alike, and a token is an account."""
    return ORDINARY, 0 if authorization is None else abs(hash(authorization))


class CannedResponse:
    """An error response of the server, in the API's one shape, that differs only in its id, date and Retry-After."""

    def __init__(self, status: int) -> None:
        placeholder = "00000000-0000-4000-8000-" + 12 * "0"
        _, body = error_body(*refusal(status, ""), placeholder)
        self._status_line = status_line((1, 1), status)
        self._length = len(body)
        self._body = body.replace(b"%", b"%%").replace(placeholder.encode(), b"%b")
        self._whole = {
            (is_head, closes): self._template(is_head=is_head, closes=closes)
            for is_head in (False, True)
            for closes in (False, True)
        }
        # The last part of the id counts: a new UUID costs more than the rest of a refusal.
        self._first = str(uuid.uuid4())[:-12]
        self._number = 0

    def _template(self, *, is_head: bool, closes: bool) -> bytes:
        lines = [
            b"Content-Type: application/json\r\nContent-Length: %d\r\n" % self._length,
            b"Retry-After: %d\r\nX-Request-Id: %b\r\n",
            *(f"{name}: {value}\r\n".encode() for name, value in CROSS_ORIGIN),
            b"Connection: close\r\n" if closes else b"",
            b"\r\n",
        ]
        # A response to HEAD leaves out the body, and so takes the id without writing it.
        return self._status_line + b"%b" + b"".join(lines) + (b"%.0b" if is_head else self._body)

    def make(self, *, is_head: bool, closes: bool) -> tuple[str, bytes]:
        """Return (uuid, the response)."""
        self._number += 1
        error_id = f"{self._first}{self._number:012x}"
        text = error_id.encode()
        # By chance: those who wait are refused in rounds, in which a turn would give one client always the same.
        seconds = 1 + int(random.random() * RETRY_AFTER_SECONDS)  # noqa: S311
        return error_id, self._whole[is_head, closes] % (date_line(), seconds, text, text)


class Gate:
    """Decides for each request of a worker, before it begins, whether it begins, waits or is refused.

    `is_on` is false in a worker that has room: then nothing is asked. It is true while there are signs of an overload
    (`serving/admission.py`), and while requests under way take half of the worker's connections: then an account that
    has more than its share of them gets a 429.
    """

    def __init__(self, worker: "GatewayWorker", classify: Classifier) -> None:
        options = worker.options
        self.admission = Admission(options.overload_wait_seconds, most_events=worker.worker_connections // 2)
        self.meter = LagMeter(self._tick)
        self.kind = ALWAYS
        self._worker = worker
        self._root = worker.root_path.rstrip("/").encode()
        self._classify = classify
        self._share = options.account_in_flight_share
        self._responses = {status: CannedResponse(status) for status in (OVERLOADED, CROWDED)}
        self._resting: list[GatewayProtocol] = []
        self._in_flight: Counter[int] | None = None  # by account, while the worker is half full
        self._ticks = 0
        self._may_log = True

    @property
    def is_on(self) -> bool:
        """Whether requests must be asked about."""
        return self.admission.is_watching or self._in_flight is not None

    def ask(self, asked: Asked, connection: "GatewayProtocol") -> int:
        """Return the status to refuse a request with, 0 for one that begins, or WAITS; `kind` is its class afterwards.

        Of one that waits, `begin` or `refuse` of its connection is called later.
        """
        kind, account = self._class_and_account(asked)
        self.kind = kind
        if kind == ALWAYS:
            return 0
        if self._in_flight is not None and account > 0:
            most = max(FEWEST_IN_FLIGHT, self._share * self.admission.under_way)
            if self._in_flight[account] >= most:
                return CROWDED
        decision = self.admission.ask(kind, account, connection) if self.admission.is_watching else BEGIN
        if decision == REFUSE:
            return OVERLOADED
        connection.account = account
        return WAITS if decision == WAIT else 0

    def count_begin(self, account: int) -> None:
        """Called when a request of an account begins."""
        if self._in_flight is not None:
            self._in_flight[account] += 1

    def count_end(self, account: int) -> None:
        """Called when such a request ends."""
        in_flight = self._in_flight
        if in_flight is not None:
            in_flight[account] -= 1
            if in_flight[account] <= 0:  # below 0 for one whose client had gone when they were counted
                del in_flight[account]

    def _class_and_account(self, asked: Asked) -> tuple[int, int]:
        method, target, authorization = asked
        return self._classify(method, target.partition(b"?")[0].removeprefix(self._root), authorization)

    def response(self, status: int, *, is_head: bool, closes: bool) -> tuple[str, bytes]:
        """Return (uuid, the bytes of a refusal)."""
        return self._responses[status].make(is_head=is_head, closes=closes)

    def takes_a_line(self) -> bool:
        """Whether the access log gets a line of this refusal: of one in each turn."""
        may_log, self._may_log = self._may_log, False
        return may_log

    def must_rest(self) -> bool:
        """Whether the connection whose request was just refused is left unread until the next turn."""
        return self.kind == BULK and self.admission.refuses_most

    def rest(self, connection: "GatewayProtocol") -> None:
        """Read the connection again at the next turn."""
        self._resting.append(connection)

    def _tick(self, waited_seconds: float) -> None:
        self.admission.sample(waited_seconds)
        self._ticks += 1
        if self._ticks % TICKS_OF_A_TURN == 0:
            self._may_log = True
            self._watch_accounts()
            resting, self._resting = self._resting, []
            for connection in resting:
                connection.end_rest()

    def _watch_accounts(self) -> None:
        worker = self._worker
        if self._share >= 1 or 2 * self.admission.under_way < worker.worker_connections:
            self._in_flight = None
        elif self._in_flight is None:
            self._in_flight = Counter(filter(None, map(self._account_under_way, worker.connections)))

    def _account_under_way(self, connection: "GatewayProtocol") -> int:
        """The account of the request under way, 0 for none; it may have begun before the gate was on."""
        asked = connection.asked_under_way
        if asked is None:
            return 0
        if not connection.account:
            connection.account = self._class_and_account(asked)[1]
        return connection.account
