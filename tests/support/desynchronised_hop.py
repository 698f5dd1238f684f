"""The three services behind a hop that has lost count: one in ten of its answers is a stray, doubled or half one."""

import asyncio
import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import orjson

from tests.support import samples
from tests.support.ports import free_port

ACCOUNTS = {samples.ACCOUNT: samples.TOKEN, samples.OTHER_ACCOUNT: samples.OTHER_TOKEN}
ENTITIES = 5  # of each kind in each account; entity n of an account has the number 10,000 * account + n
MANNERS = ("stray", "doubled", "with a half", "half", "a moment later")


def number(account: int, index: int) -> int:
    return account * 10_000 + index


def entity(kind: str, entity_id: int) -> dict[str, Any]:
    """Entity n of an account lies in its campaign n and its project n."""
    account = entity_id // 10_000
    owners = {"project_id": entity_id, "account_id": account}
    if kind == "projects":
        return samples.project(entity_id, account)
    if kind == "experiments":
        return samples.experiment(entity_id, entity_id, **owners)
    if kind == "layers":
        return samples.layer(entity_id, experiment_ids=(entity_id,), **owners)
    return samples.event(entity_id, **owners)


def results(experiment_id: int) -> dict[str, Any]:
    answer = {**samples.results(), "experiment_id": experiment_id}
    answer["reach"]["total_count"] = experiment_id  # so that a stray one can be told
    return answer


def _value(path: str, query: dict[str, str]) -> Any:
    kind, *rest = path.strip("/").split("/")
    if kind == "tokens":
        known = (samples.token(token, account) for account, token in ACCOUNTS.items())
        return next(token for token in known if token["token_sha256"] == rest[0])
    if kind == "results":
        return results(int(rest[0]))
    if rest:
        return entity(kind, int(rest[0]))
    account = int(query["account_id"])
    wanted = {key: int(query[key]) for key in ("project_id", "campaign_id") if key in query}
    listed = [entity(kind, number(account, index)) for index in range(1, ENTITIES + 1)]
    items = [item for item in listed if all(item.get(key) == value for key, value in wanted.items())]
    return {"total": len(items), "items": items}


class DesynchronisedHop(asyncio.Protocol):
    """One connection of it; `seen` counts what it did, on all of them."""

    seen: ClassVar[Counter[str]] = Counter()
    share = 0.1  # of its answers
    chance = random.Random()
    echoes = True
    open: ClassVar[set[Any]] = set()
    _others = b""  # the last answer on any connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.open.add(transport)
        self._waiting = b""
        self._behind: bytes | None = None  # on a connection that is an answer behind: the next to be sent

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        data = self._waiting + data
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                break
            data = rest[length:]
            self._answer(self._made(head))
        self._waiting = data

    def _made(self, head: bytes) -> bytes:
        path, _, query = head.split(b" ", 2)[1].decode().partition("?")
        body = orjson.dumps(_value(path, dict(parse_qsl(query))))
        echo = head.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0]
        header = b"X-Request-Id: %b\r\n" % echo if self.echoes else b""
        return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (header, len(body), body)

    def _answer(self, own: bytes) -> None:
        kind = type(self)
        others, kind._others = kind._others or own, own
        if self._behind is not None:
            own, self._behind = self._behind, own
            kind.seen["still behind"] += 1
        elif self.chance.random() < self.share:
            manner = self.chance.choice(MANNERS)
            kind.seen[manner] += 1
            half = own[: self.chance.randrange(1, len(own))]
            if manner == "stray":
                own, self._behind = others, own
            elif manner == "doubled":
                own += others
            elif manner == "with a half":
                own += others[: self.chance.randrange(1, len(others))]
            elif manner == "half":
                self._transport.write(half)
                self._transport.close()
                return
            else:
                asyncio.get_running_loop().call_later(0.001, self._transport.write, others)
        self._transport.write(own)


async def _end(server: asyncio.Server, hop: Any) -> None:
    server.close()
    for transport in list(hop.open):
        transport.abort()
    while hop.open:
        await asyncio.sleep(0)


@contextmanager
def desynchronised_hop(seed: int, *, echoes: bool) -> Iterator[dict[str, str]]:
    """Run the hop in a thread of its own; brings the gateway's settings that lead to it."""
    hop = type(
        "Hop",
        (DesynchronisedHop,),
        {"seen": Counter(), "open": set(), "chance": random.Random(seed), "echoes": echoes},
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opening = loop.create_server(hop, "127.0.0.1", free_port(), backlog=1024)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(10)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield dict.fromkeys(("projects_url", "experiments_url", "results_url"), url)
    finally:
        print(f"seed {seed}; the hop: {dict(hop.seen)}")
        asyncio.run_coroutine_threadsafe(_end(server, hop), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def questions() -> list[tuple[int, str, Any]]:
    """(account, path, what a right answer says of itself) of each operation, account and entity."""
    asked: list[tuple[int, str, Any]] = []
    for account, index in itertools.product(ACCOUNTS, range(1, ENTITIES + 1)):
        one = number(account, index)
        asked += [
            (account, f"/v2/{kind}/{one}", one) for kind in ("projects", "campaigns", "experiments", "events")
        ]
        asked += [
            (account, f"/v2/experiments/{one}/results", one),
            (account, f"/v2/campaigns/{one}/results", one),
        ]
        asked += [
            (account, f"/v2/{kind}?project_id={one}", [one])
            for kind in ("campaigns", "experiments", "events")
        ]
    everything = {
        account: [number(account, index) for index in range(1, ENTITIES + 1)] for account in ACCOUNTS
    }
    return asked + [
        (account, f"/v2/{kind}", all_)
        for account, all_ in everything.items()
        for kind in ("projects", "experiments")
    ]


def shown(path: str, body: Any) -> Any:
    """What an answer of the gateway says of itself, as `questions` has it."""
    if isinstance(body, list):
        return [item["id"] for item in body]
    if path.endswith("/results"):
        if "experiment_id" in body:
            return body["experiment_id"] if body["reach"]["total_count"] == body["experiment_id"] else body
        return body["campaign_id"]
    return body["id"]
