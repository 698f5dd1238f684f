"""Doubles of the three services: real HTTP servers on free ports that can be slow, broken, odd or closed.

They run on an event loop in a thread of their own, so that blocking and coroutine clients meet the same thing.
"""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from optimizely_api.contract import load
from optimizely_api.contract.definitions import noun_of
from optimizely_api.contract.times import format_time
from tests.support import samples
from tests.support.ports import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# The state in which a call meets its service: of the service's name, and the call's method, path and request id.
StateOf = Callable[[str, str, str, str], str]

NAMES = ("projects", "experiments", "results")
SOON_SECONDS = 10.0
SLOT_SECONDS = 300
LARGEST_BODY = 4 * 1024 * 1024
# What a service can do to a call; the first is to answer it.
STATES = ("ok", "slow", "refused", "reset", "500", "bad JSON", "off contract")
# The kinds of entities, as the services' paths have them, and their definitions in the contract.
DEFINITIONS = {f"{noun_of(name)}s": name for name in load().document["definitions"]} | {
    "changes": "ChangeHistoryChange",
    "search": "SearchResult",
}


@dataclass
class Manners:
    """How one service behaves; a fresh one behaves well."""

    delay_seconds: float = 0.0
    status: int | None = None  # answers everything with this status
    body: bytes | None = None  # answers everything with this body
    cut_off: bool = False  # closes the connection in the middle of the body
    hang: bool = False  # never answers
    trickle: bool = False  # begins a body, and sends a byte of it every 50 ms for ever
    conflicts: bool = False  # answers every change of an entity with 409


@dataclass
class Seen:
    """One request as a service saw it."""

    service: str
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any = None
    cancelled: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class ServicesDouble:
    """Three servers; `entities` holds what they know, `manners` how they behave, `seen` what reached them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="services-double", daemon=True)
        self.ports: dict[str, int] = {}
        self._runners: dict[str, web.AppRunner] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all that a test changed."""
        self.seen: list[Seen] = []
        self.state_of: StateOf | None = None  # of single calls; `manners` are a whole service's
        self.key = samples.SERVICES_KEY
        self.internal_keys: dict[str, Any] = {}  # added to every entity that is answered
        self._inside: Counter[str] = Counter()
        self._most: Counter[str] = Counter()
        self.manners = {name: Manners() for name in NAMES}
        self.users: dict[str, dict[str, Any]] = {}  # of tokens; the others are administrators'
        self.tokens = {samples.TOKEN: samples.ACCOUNT, samples.OTHER_TOKEN: samples.OTHER_ACCOUNT}
        other = {"account_id": samples.OTHER_ACCOUNT, "project_id": samples.OTHER_PROJECT}
        self.hung_tokens: set[str] = set()  # whoever asks about one of these waits until it is taken out
        self.projects = _by_id(
            samples.project(), samples.project(samples.OTHER_PROJECT, samples.OTHER_ACCOUNT)
        )
        self.hidden_projects = _by_id(
            {**samples.project(samples.ARCHIVED_ENTITY), "status": "archived", "archived": True}
        )
        self.experiments = _by_id(
            samples.experiment(),
            samples.experiment(samples.OTHER_EXPERIMENT, samples.OTHER_LAYER, **other),
        )
        self.layers = _by_id(
            samples.layer(),
            samples.layer(samples.OTHER_LAYER, experiment_ids=(samples.OTHER_EXPERIMENT,), **other),
        )
        self.events = _by_id(samples.event(), samples.event(samples.OTHER_EVENT, **other))
        # What only writes are about is no part of the lists that tests of reading count.
        self.hidden_events = _by_id(
            samples.click(),
            samples.event(samples.ARCHIVED_EVENT, archived=True),
            samples.click(samples.ARCHIVED_CLICK, archived=True),
        )
        self.kinds: dict[str, dict[int, dict[str, Any]]] = {}
        sdk_key = samples.entity("Environment")["datafile"]["sdk_key"]
        self.sdk_keys = {sdk_key}
        self.datafiles = {sdk_key: samples.datafile(sdk_key)}
        self.results: dict[int, Any] = {samples.EXPERIMENT: samples.results()}
        self.results_status = 200
        self.retry_after_seconds = 2
        self.impressions: dict[int, int] = {}  # by experiment; 3 of those that are not named
        self.events_answer: tuple[int, dict[str, str]] = (204, {})
        self.conversions: tuple[int, float] | None = (
            None  # their count and the time of the last, as data of a version
        )

    def settings(self) -> dict[str, str]:
        """The gateway's settings that lead here."""
        urls = {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        # Gateways serve one test after another: what a service did in one must not count in the next.
        unmoved = {"throttle_seconds": "0", "hedge_share": "0"}
        return {**urls, "services_key": samples.SERVICES_KEY, **unmoved}

    def start(self) -> None:
        self.thread.start()
        for name in NAMES:
            self.open(name)

    def stop(self) -> None:
        for name in NAMES:
            self.close(name)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(SOON_SECONDS)
        self.loop.close()

    def open(self, name: str) -> None:
        """Listen, on the same port as before."""
        if name not in self._runners:
            self._run(self._open(name))

    def close(self, name: str) -> None:
        """Refuse connections from now on, and break those that are open."""
        runner = self._runners.pop(name, None)
        if runner:
            self._run(runner.cleanup())

    def calls(self) -> list[str]:
        """The calls so far as `METHOD service path`, without those that identify a token."""
        return [
            f"{seen.method} {seen.service} {seen.path}"
            for seen in list(self.seen)
            if "/tokens/" not in seen.path
        ]

    def most_at_once(self, service: str) -> int:
        """The largest number of requests that were in this service at the same time."""
        return self._most[service]

    def wait_for_calls(self, count: int) -> list[Seen]:
        """Wait until this many calls, tokens left out, have arrived."""
        arrived: list[Seen] = []

        async def wait() -> None:
            while len(arrived) < count:
                arrived[:] = [seen for seen in self.seen if "/tokens/" not in seen.path]
                await asyncio.sleep(0.002)

        self._run(asyncio.wait_for(wait(), SOON_SECONDS))
        return arrived

    def wait_for_identifications(self, count: int) -> None:
        """Wait until so many calls about tokens have arrived."""

        async def wait() -> None:
            while sum("/tokens/" in seen.path for seen in self.seen) < count:
                await asyncio.sleep(0.002)

        self._run(asyncio.wait_for(wait(), SOON_SECONDS))

    def _run(self, work: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self.loop).result(SOON_SECONDS + 5)

    async def _open(self, name: str) -> None:
        application = web.Application(middlewares=[self._mannered(name)], client_max_size=LARGEST_BODY)
        application.add_routes(self._routes(name))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.ports.setdefault(name, free_port())))
        await web.SockSite(runner, listening).start()
        self._runners[name] = runner

    def _mannered(self, name: str) -> Any:
        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.headers.get("Authorization") != f"Bearer {self.key}":
                refusal = {"code": "unauthorized", "message": "The key is wrong."}
                return web.json_response(refusal, status=401, headers=_echo(request))
            seen = await self._note(name, request)
            self._inside[name] += 1
            self._most[name] = max(self._most[name], self._inside[name])
            try:
                state = "ok"
                if self.state_of is not None:
                    number = request.headers.get("X-Request-Id", "")
                    state = self.state_of(name, request.method, request.path, number.rpartition(".")[0])
                if state != "ok":
                    return await _in_state(state, request)
                response = await self._answer(self.manners[name], request, handler)
                if not response.prepared:
                    response = self._with_internal_keys(response)
                    response.headers.update(_echo(request))
                return response
            except asyncio.CancelledError:
                seen.cancelled = True
                raise
            finally:
                self._inside[name] -= 1
                seen.ended.set()

        return middleware

    def _with_internal_keys(self, response: web.StreamResponse) -> web.StreamResponse:
        if not self.internal_keys or response.content_type != "application/json":
            return response
        assert isinstance(response, web.Response)
        body = json.loads(response.text or "")
        entities = body.get("items", [body])
        for entity in entities:
            entity.update(self.internal_keys)
        return web.json_response(body, status=response.status)

    async def _note(self, name: str, request: web.Request) -> Seen:
        body: Any = None
        if request.path == "/v1/events":
            body = await request.read()
        elif request.can_read_body:
            body = await request.json()
        seen = Seen(name, request.method, request.path, dict(request.query), request.headers.copy(), body)
        self.seen.append(seen)
        return seen

    async def _answer(self, manners: Manners, request: web.Request, handler: Handler) -> web.StreamResponse:
        if manners.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(manners.delay_seconds)
        if manners.cut_off:
            response = web.StreamResponse(headers={"Content-Length": "1000", **_echo(request)})
            await response.prepare(request)
            await response.write(b'{"half": ')
            if request.transport is not None:
                request.transport.close()
            return response
        if manners.trickle:
            response = web.StreamResponse(headers=_echo(request))
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)
        if manners.status is not None or manners.body is not None:
            return web.Response(status=manners.status or 200, body=manners.body or b"{}")
        if manners.conflicts and request.method != "GET":
            refusal = {"code": "conflict", "message": "Its state does not allow it."}
            return web.json_response(refusal, status=409)
        return await handler(request)

    def _routes(self, name: str) -> list[web.RouteDef]:
        async def health(_request: web.Request) -> web.Response:
            return web.json_response({"status": "ok"})

        routes = {
            "projects": [
                web.get("/tokens/{sha256}", self._token),
                web.get(r"/accounts/{id:\d+}", self._account),
                web.get(r"/accounts/{id:\d+}/users", self._users),
                web.get("/projects", self._list("projects")),
                web.get("/sdk_keys/{sdk_key}", self._sdk_key),
                web.get(r"/subject_access_requests/{id:\d+}/export", self._export),
            ],
            "experiments": [
                web.get("/experiment_labels", self._list("experiments")),
                web.get("/experiments", self._list("experiments")),
                web.get("/layers", self._list("layers")),
                web.get("/events", self._list("events")),
                web.post("/datafiles", self._registered),
                web.post("/snippets", self._snippets),
                web.get("/datafiles/{sdk_key}", self._datafile),
            ],
            "results": [
                web.post(r"/results/{id:\d+}", self._results),
                web.post(r"/results/{id:\d+}/timeseries", self._timeseries),
                web.post("/impressions", self._impressions),
                web.post("/decisions", self._decisions),
                web.post("/v1/events", self._events),
            ],
        }
        entities = [
            web.get("/{kind}", self._list_entities),
            web.post("/{kind}", self._create_entity),
            web.route("*", r"/{kind}/{id:\d+}", self._one_entity),
        ]
        return [web.get("/healthz", health), *routes[name], *entities]

    async def _sdk_key(self, request: web.Request) -> web.Response:
        if (sdk_key := request.match_info["sdk_key"]) not in self.sdk_keys:
            return _missing()
        return web.json_response({"sdk_key": sdk_key, "environment_id": samples.ENTITY})

    async def _export(self, request: web.Request) -> web.Response:
        return web.json_response({"id": int(request.match_info["id"]), "content": "UEsFBg=="})

    async def _registered(self, request: web.Request) -> web.Response:
        environments = (await request.json())["environments"]
        self.datafiles |= {one["sdk_key"]: samples.datafile(one["sdk_key"]) for one in environments}
        items = [{"environment_id": one["id"], "revision": 1, "size": 100} for one in environments]
        return web.json_response({"items": items})

    async def _snippets(self, request: web.Request) -> web.Response:
        projects = (await request.json())["projects"]
        items = [{"project_id": one["project_id"], "revision": 1, "size": 100} for one in projects]
        return web.json_response({"items": items})

    async def _datafile(self, request: web.Request) -> web.Response:
        datafile = self.datafiles.get(request.match_info["sdk_key"])
        if datafile is None:
            return _missing()
        etag = f'"{datafile["revision"]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.json_response(datafile, headers={"ETag": etag})

    def _entities(self, kind: str) -> dict[int, dict[str, Any]]:
        """The entities of a kind without a table here, such as `attributes`: made of the contract's examples."""
        if kind == "events":
            return self.hidden_events | self.events
        if kind == "projects":
            return self.hidden_projects | self.projects
        if kind in ("experiments", "layers"):
            sample = samples.experiment if kind == "experiments" else samples.layer
            archived = {**sample(samples.ARCHIVED_ENTITY), "status": "archived"}
            hidden = _by_id(archived, sample(samples.ENTITY_IN_USE))
            shown: dict[int, dict[str, Any]] = getattr(self, kind)
            return hidden | shown
        if kind not in self.kinds:
            self.kinds[kind] = _by_id(*samples.entities(DEFINITIONS[kind]))
        return self.kinds[kind]

    async def _list_entities(self, request: web.Request) -> web.Response:
        return _page(request, self._entities(request.match_info["kind"]))

    async def _create_entity(self, request: web.Request) -> web.Response:
        entities = self._entities(kind := request.match_info["kind"])
        number, body = max(entities) + 1, await request.json()
        created = (
            {**next(iter(entities.values())), **body, "id": number}
            if kind in ("experiments", "layers")
            else samples.entity(DEFINITIONS[kind], number, **body)
        )
        entities[created["id"]] = created
        return web.json_response(created, status=201)

    async def _one_entity(self, request: web.Request) -> web.Response:
        entity = self._entities(request.match_info["kind"]).get(int(request.match_info["id"]))
        if entity is None:
            return _missing()
        if request.method != "GET" and (entity.get("archived") or entity.get("status") == "archived"):
            status, code = (410, "gone") if request.method == "DELETE" else (409, "conflict")
            return web.json_response({"code": code, "message": "It is archived."}, status=status)
        if request.method == "DELETE" and entity["id"] == samples.ENTITY_IN_USE:
            return web.json_response({"code": "conflict", "message": "It is in use."}, status=409)
        if request.method == "DELETE":
            entity["archived"] = True
            return web.Response(status=204)
        if request.method == "PATCH":
            entity.update(await request.json())
        return web.json_response(entity)

    async def _token(self, request: web.Request) -> web.Response:
        while any(
            samples.token(token)["token_sha256"] == request.match_info["sha256"] for token in self.hung_tokens
        ):
            await asyncio.sleep(0.002)
        for token, account_id in self.tokens.items():
            if samples.token(token)["token_sha256"] == request.match_info["sha256"]:
                of_user = {"user": self.users[token]} if token in self.users else {}
                return web.json_response({**samples.token(token, account_id), **of_user})
        return _missing()

    def _one(self, kind: str) -> Handler:
        async def one(request: web.Request) -> web.Response:
            entity = getattr(self, kind).get(int(request.match_info["id"]))
            return web.json_response(entity) if entity else _missing()

        return one

    def _list(self, kind: str) -> Handler:
        async def listed(request: web.Request) -> web.Response:
            return _page(request, getattr(self, kind))

        return listed

    async def _events(self, _request: web.Request) -> web.Response:
        status, headers = self.events_answer
        if status < 400:
            return web.Response(status=status)
        refusal = {"code": "of_the_service", "message": "The service says why."}
        return web.json_response(refusal, status=status, headers=headers)

    async def _account(self, request: web.Request) -> web.Response:
        account_id = int(request.match_info["id"])
        return web.json_response({"id": account_id}) if account_id in self.tokens.values() else _missing()

    async def _users(self, _request: web.Request) -> web.Response:
        users = list(self.users.values())
        return web.json_response({"total": len(users), "items": users})

    async def _impressions(self, request: web.Request) -> web.Response:
        question = await request.json()
        numbers = sorted(n for n in self.experiments if n > question["after_id"])[: question["limit"]]
        items = [{"experiment_id": n, "impressions": self.impressions.get(n, 3)} for n in numbers]
        return web.json_response({**question, "items": items})

    async def _decisions(self, request: web.Request) -> web.Response:
        question = await request.json()
        about = {name: question[name] for name in ("account_id", "visitor_id")}
        decision = {"experiment_id": samples.EXPERIMENT, "timestamp": 1767605400000, "is_holdback": True}
        return web.json_response({**about, "total": 1, "items": [decision]})

    async def _results(self, request: web.Request) -> web.Response:
        if self.results_status != 200:
            return self._not_ready()
        experiment_id = int(request.match_info["id"])
        results = self.results.get(experiment_id)
        if not results:
            return web.Response(status=204)
        answer = {"experiment_id": experiment_id, **results}
        if self.conversions is None:
            return web.json_response(answer)
        count, at = self.conversions
        end = max(time.time() // SLOT_SECONDS * SLOT_SECONDS, at // 1)
        answer["end_time"] = format_time(datetime.fromtimestamp(end, UTC))
        answer["reach"]["total_count"] = count
        tag = f'"{count}-{end}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.json_response(answer, headers={"ETag": tag})

    def _not_ready(self) -> web.Response:
        if self.results_status == 202:
            return web.json_response({"retry_after_seconds": self.retry_after_seconds}, status=202)
        return web.Response(status=self.results_status)

    async def _timeseries(self, request: web.Request) -> web.Response:
        if self.results_status != 200:
            return self._not_ready()
        experiment_id = int(request.match_info["id"])
        if not self.results.get(experiment_id):
            return web.Response(status=204)
        return web.json_response({"experiment_id": experiment_id, **samples.timeseries()})


async def _in_state(state: str, request: web.Request) -> web.StreamResponse:
    """Respond as a service in one of the `STATES` but the first; without a response it ends with the connection."""
    if state == "refused":
        return web.Response(status=503, headers={"Connection": "close"})
    if state == "500":
        return web.Response(status=500, headers=_echo(request))
    if state == "bad JSON":
        return web.Response(body=b'{"half": ', content_type="application/json", headers=_echo(request))
    if state == "off contract":
        return web.json_response({"surprise": True}, headers=_echo(request))
    if state == "reset" and request.transport is not None:
        request.transport.abort()
    await asyncio.Event().wait()
    raise AssertionError("it waits for ever")


def _echo(request: web.Request) -> dict[str, str]:
    return {"X-Request-Id": request.headers.get("X-Request-Id", "")}


def _page(request: web.Request, entities: dict[int, dict[str, Any]]) -> web.Response:
    query = request.query
    wanted = {key: int(query[key]) for key in ("account_id", "project_id", "campaign_id") if key in query}
    named = {
        *query.getall("id", []),
        *(text[3:] for text in query.getall("filter", []) if text.startswith("id:")),
    }
    found = [
        entity
        for number, entity in entities.items()
        if all(entity.get(key) == wanted[key] for key in wanted) and (not named or str(number) in named)
    ]
    page, size = int(query["page"]), int(query["per_page"])
    return web.json_response({"total": len(found), "items": found[(page - 1) * size : page * size]})


def _by_id(*entities: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {entity["id"]: entity for entity in entities}


def _missing() -> web.Response:
    return web.json_response({"code": "not_found", "message": "There is no such entity."}, status=404)
