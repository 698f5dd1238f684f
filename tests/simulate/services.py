"""The three services, as the gateway meets them: bytes of HTTP, late, broken and untrue ones too."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from tests.simulate.outages import NAMES, Outage
from tests.simulate.virtual_loop import VirtualLoop
from tests.support import samples

if TYPE_CHECKING:
    from tests.simulate.network import Connection

EXPERIMENTS = 16
ACCOUNTS = 4
PROJECT, LAYER, EXPERIMENT = 2000, 3000, 4000  # the first id of each
SLOT_SECONDS = 60.0  # for so long results stay the same
VERSION = 987654321  # stands in the samples for a version

FASTEST_SECONDS = {"projects": 0.001, "experiments": 0.001, "results": 0.003}
SLOWEST_TIMES = 8.0  # so many times the fastest; a service that is well never takes longer
CROWDED_SECONDS = 0.05  # of work for one call
TAIL_SECONDS = 1.0

_CALL = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>[^ ]+) .*?\r\nX-Request-Id: (?P<number>[^\r]+)"
    rb"\r\nX-Envoy-Expected-Rq-Timeout-Ms: (?P<milliseconds>\d+)\r\n",
    re.DOTALL,
)
_TAG = re.compile(rb'If-None-Match: "(\d+)"\r\n')


class Truth:
    """What the services know: experiments have versions, which writes replace; results have those of the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._templates = {path: _template(path) for path in _paths()}
        self.denied: dict[bytes, int] = {}  # statuses by path
        self._versions = dict.fromkeys(self._templates, 1)
        self._replaced: dict[tuple[bytes, int], float] = {}

    def version(self, path: bytes) -> int:
        if path.startswith(b"/results"):
            return int(self._loop.time() // SLOT_SECONDS)
        return self._versions[path]

    def write(self, path: bytes) -> None:
        """Make something new of an experiment."""
        self._replaced[path, self._versions[path]] = self._loop.time()
        self._versions[path] += 1

    def held_until(self, path: bytes, version: int) -> float:
        """When a version was replaced; the present for one that holds."""
        if path.startswith(b"/results"):
            return (version + 1) * SLOT_SECONDS
        return self._replaced.get((path, version), self._loop.time())

    def body(self, path: bytes) -> bytes:
        return self._templates[path].replace(b"%d" % VERSION, b"%d" % self.version(path))

    def another(self, path: bytes) -> bytes:
        """What another call of the same kind would get."""
        kind = path[: path.rindex(b"/") + 1]
        return self.body(next(one for one in self._templates if one.startswith(kind) and one != path))


def ids(place: int) -> tuple[int, int, int, int]:
    """The ids of an experiment by its place, of its layer, its project and its account."""
    account = place % ACCOUNTS
    return EXPERIMENT + place, LAYER + place, PROJECT + account, samples.ACCOUNT + account


def _paths() -> list[bytes]:
    paths = []
    for place in range(EXPERIMENTS):
        experiment, layer, project, _ = ids(place)
        paths += [b"/experiments/%d" % experiment, b"/layers/%d" % layer, b"/results/%d" % experiment]
        paths.append(b"/projects/%d" % project)
    return list(dict.fromkeys(paths))


def _template(path: bytes) -> bytes:
    kind, number = path.decode().strip("/").split("/")
    value: Any
    if kind == "projects":
        value = samples.project(int(number), samples.ACCOUNT + int(number) - PROJECT)
        return orjson.dumps({**value, "confidence_threshold": threshold(int(number))})
    experiment, layer, project, account = ids(int(number) % 1000)
    if kind == "layers":
        value = samples.layer(layer, project, account, (experiment,))
    elif kind == "experiments":
        value = {**samples.experiment(experiment, layer, project, account), "name": str(VERSION)}
    else:
        value = {**samples.results(), "experiment_id": experiment}
        value["reach"] = {**value["reach"], "total_count": VERSION}
    return orjson.dumps(value)


def threshold(project: int) -> float:
    """Differs by project, to tell whose part is in a response."""
    return (800 + project - PROJECT) / 1000


class Service:
    """One service: it works on any number of calls at once, until an outage begins."""

    def __init__(self, loop: VirtualLoop, name: str, truth: Truth, chance: random.Random) -> None:
        self._loop, self.name, self._truth, self._chance = loop, name, truth, chance
        self.connections: dict[Connection, None] = {}
        self.outages: dict[Outage, None] = {}
        self._free_at = 0.0  # while it works on one call at a time
        self.attempts = 0  # requests, and connections that were refused
        self.delivered: Callable[[bytes, int], None]  # is called with the path and status of each response

    def has(self, kind: str) -> bool:
        return any(outage.kind == kind for outage in self.outages)

    @property
    def is_well(self) -> bool:
        return not self.outages

    @property
    def fails_all(self) -> bool:
        """Whether no call can succeed."""
        return any(one.kind in ("gone", "silent", "frozen") or _fails(one) for one in self.outages)

    def begin(self, outage: Outage) -> None:
        self.outages[outage] = None
        if outage.kind == "gone":
            for connection in list(self.connections):
                connection.close_by_service(ConnectionResetError())

    def end(self, outage: Outage) -> None:
        del self.outages[outage]
        self._free_at = 0.0

    def receive(self, connection: Connection, request: bytes) -> None:
        """A whole request has arrived."""
        self.attempts += 1
        call = _CALL.match(request)
        assert call is not None, request
        seconds = FASTEST_SECONDS[self.name] * (1 + (SLOWEST_TIMES - 1) * self._chance.random() ** 4)
        if not self.outages:
            self._loop.call_later(seconds, self._answer, connection, request, call)
            return
        for outage in self.outages:
            if outage.kind == "silent":
                return
            seconds = self._delayed(seconds, outage)
        patience = int(call["milliseconds"]) / 1000
        if seconds > patience:
            self._loop.call_later(patience, self._respond, connection, call, 504, b"{}")
        else:
            self._loop.call_later(seconds, self._answer, connection, request, call)

    def _delayed(self, seconds: float, outage: Outage) -> float:
        now = self._loop.time()
        if outage.kind == "frozen":
            return outage.ends - now + seconds
        if outage.kind == "slow":
            return seconds * outage.factor
        if outage.kind == "tail" and self._chance.random() < 0.01:
            return seconds + TAIL_SECONDS
        if outage.kind == "crowded":
            self._free_at = max(now, self._free_at) + CROWDED_SECONDS
            return seconds + self._free_at - now
        return seconds

    def _answer(self, connection: Connection, request: bytes, call: re.Match[bytes]) -> None:
        """Do the work, and respond as the present outages want it."""
        path = call["path"]
        is_write = call["method"] == b"PATCH"
        applies = next((one for one in self.outages if self._hits(one)), None)
        if is_write and (applies is None or self._chance.random() < 0.5):
            self._truth.write(path)
        if applies is not None:
            self._misbehave(applies, connection, call)
            return
        if (status := self._truth.denied.get(path)) is not None:
            self._respond(connection, call, status, b"{}")
            return
        tag = _TAG.search(request)
        if tag is not None and int(tag[1]) == self._truth.version(path):
            self._respond(connection, call, 304, b"")
        else:
            self._respond(connection, call, 200, self._truth.body(path))

    def _hits(self, outage: Outage) -> bool:
        return outage.kind in MISBEHAVIOUR and self._chance.random() < outage.share

    def _misbehave(self, outage: Outage, connection: Connection, call: re.Match[bytes]) -> None:
        chance, kind, path = self._chance, outage.kind, call["path"]
        body = self._truth.body(path)
        if kind == "busy":
            after = chance.choice((b"", b"Retry-After: 0\r\n", b"Retry-After: 1\r\n"))
            self._respond(connection, call, 503, b"{}", after)
        elif kind == "error":
            self._respond(connection, call, chance.choice((500, 502, 504)), b"{}")
        elif kind == "denying":
            self._respond(connection, call, chance.choice((401, 403)), b"{}")
        elif kind == "swapped":
            self._respond(connection, call, 200, self._truth.another(path))
        elif kind == "garbage":
            body = chance.choice((b"{", b"[]", b"{}", body[:-1]))
            self._respond(connection, call, 200, body)
            if chance.random() < 0.2:
                connection.deliver(b"SMTP\r\n\r\n")
        else:
            if kind == "cut":
                connection.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nX-Request-Id: ")
            connection.close_by_service(chance.choice((None, ConnectionResetError())))

    def _respond(
        self,
        connection: Connection,
        call: re.Match[bytes],
        status: int,
        body: bytes,
        further: bytes = b"",
    ) -> None:
        if not connection.is_open:
            return
        tag = b'ETag: "%d"\r\n' % self._truth.version(call["path"]) if status in (200, 304) else b""
        head = b"HTTP/1.1 %d -\r\nContent-Length: %d\r\nX-Request-Id: %s\r\n%s%s\r\n"
        connection.deliver(head % (status, len(body), call["number"], tag, further) + body)
        self.delivered(call["path"], status)


MISBEHAVIOUR = frozenset(("busy", "error", "reset", "cut", "garbage", "swapped", "denying"))


def _fails(outage: Outage) -> bool:
    return outage.kind in MISBEHAVIOUR - {"denying"} and outage.share == 1.0


def services(loop: VirtualLoop, truth: Truth, chance: random.Random) -> dict[str, Service]:
    return {name: Service(loop, name, truth, chance) for name in NAMES}
