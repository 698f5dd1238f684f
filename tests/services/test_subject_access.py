"""The work on subject access requests, with real services."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from sqlalchemy import select

from optimizely_api.services.http.addresses import EXPERIMENTS_URL, RESULTS_URL
from optimizely_api.services.projects.lease import TERM
from optimizely_api.services.projects.subject_access.sources import Sources
from optimizely_api.services.projects.subject_access.worker import Surroundings, Worker
from optimizely_api.services.projects.tables import subject_access_exports
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, Serve, killed_projects_service, running, session_with_key
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    attribute,
    batch,
    conversion,
    impression,
    question,
)
from tests.services.test_experiments import make, patched

LONGEST_WAIT_SECONDS = 30
PUBLIC_URL = "https://api.shop.example"
ANN = "ann/?&=ä@shop.example"


class Account:
    """An account whose visitors Ann and Ben have data in the services."""

    def __init__(self, projects: Caller, experiments: Caller, results: Caller, account_id: int) -> None:
        self.projects, self.experiments, self.results = projects, experiments, results
        self.account_id = account_id

    async def fill(self) -> None:
        """Let both visitors take part in an experiment, and stand in a whitelist."""
        visitors = (ANN, "ben")
        plan = [attribute("plan", "gold")]
        entries = [impression(key, attributes=plan) for key in visitors]
        entries += [conversion(key, revenue=500) for key in visitors]
        body = batch(*entries, account_id=str(self.account_id))
        assert await self.results.post("/v1/events", body) == (204, None)
        made = await make(self.experiments, account_id=self.account_id)
        variation_id = made["variations"][0]["variation_id"]
        whitelist = [{"user_id": key, "variation_id": variation_id} for key in visitors]
        await patched(self.experiments, made, whitelist=whitelist)
        self.experiment_id = made["id"]

    async def request(self, request_type: str = "delete", **given: Any) -> Any:
        """A new request about Ann."""
        body = {
            "account_id": self.account_id,
            "data_type": "visitor",
            "identifier": ANN,
            "identifier_type": "fullstack_id",
            "request_type": request_type,
            **given,
        }
        return await self.projects.made("/subject_access_requests", body)

    async def until(self, made: Any, status: str = "completed") -> Any:
        """The request, once it has the status."""
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            while True:
                shown = (await self.projects.get(f"/subject_access_requests/{made['id']}"))[1]
                if shown["status"] == status:
                    return shown
                await asyncio.sleep(0.02)

    async def visitors(self) -> int:
        """How many visitors the experiment's results have."""
        status, body = await self.results.post(f"/results/{EXPERIMENT}", question())
        assert status == 200
        return int(body["metrics"][0]["results"][str(CONTROL)]["samples"])

    async def whitelisted(self) -> list[str]:
        """Who stands in the whitelist."""
        shown = (await self.experiments.get(f"/experiments/{self.experiment_id}"))[1]
        return [entry["user_id"] for entry in shown["whitelist"]]

    @asynccontextmanager
    async def worker(
        self, results_url: str = "", ahead: timedelta = timedelta(), **given: Any
    ) -> AsyncIterator[Worker]:
        """A worker whose clock is ahead."""
        database = Database(self.projects.database_url)
        surroundings = Surroundings(
            now=lambda: datetime.now(UTC) + ahead, **{"look_seconds": 0.02, "pause_seconds": 0.1, **given}
        )
        async with session_with_key() as session:
            sources = Sources(session, self.experiments.url, results_url or self.results.url)
            async with Worker(database, sources, PUBLIC_URL, surroundings).running() as worker:
                yield worker
        await database.close()


@pytest_asyncio.fixture
async def account(serve: Serve) -> Account:
    """The account, in services that nobody works in."""
    projects, experiments, results = [await serve(name) for name in ("projects", "experiments", "results")]
    made = await projects.made("/accounts", {"name": "Shop"})
    account = Account(projects, experiments, results, made["id"])
    await account.fill()
    return account


async def test_a_service_as_operators_start_it_deletes_a_visitor(
    serve: Serve, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXPERIMENTS_URL, account.experiments.url)
    monkeypatch.setenv(RESULTS_URL, account.results.url)
    made = await account.request()
    assert made["status"] == "pending"
    await serve("projects", account.projects.database_url)
    completed = await account.until(made)
    requested, started, ended = (
        datetime.fromisoformat(completed[f"{name}_time"])
        for name in ("requested_at", "processing_started", "completed_at")
    )
    assert requested <= started <= ended
    assert "expired_at_time" not in completed
    assert await account.visitors() == 1
    assert await account.whitelisted() == ["ben"]


@pytest.mark.parametrize("identifier_type", ["fullstack_id", "optimizely_end_user_id", "other"])
async def test_these_identifiers_are_compared_with_the_visitor_id(
    account: Account, identifier_type: str
) -> None:
    async with account.worker():
        await account.until(await account.request(identifier_type=identifier_type))
    assert await account.visitors() == 1


@pytest.mark.parametrize(
    "given", [{"identifier_type": "dcp_id"}, {"identifier_type": "email"}, {"data_type": "user"}], ids=str
)
async def test_requests_by_other_identifiers_find_nothing(account: Account, given: dict[str, str]) -> None:
    async with account.worker():
        await account.until(await account.request(**{"identifier_type": "email", **given}))
    assert await account.visitors() == 2
    assert await account.whitelisted() == [ANN, "ben"]


async def test_another_accounts_visitor_of_the_same_id_stays(account: Account) -> None:
    other = await account.projects.made("/accounts", {"name": "Another"})
    async with account.worker():
        await account.until(await account.request(account_id=other["id"]))
    assert await account.visitors() == 2
    assert await account.whitelisted() == [ANN, "ben"]


@asynccontextmanager
async def scripted(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """The URL of a server that answers to everything so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with running(app) as caller:
        yield caller.url


async def test_a_service_that_is_away_is_asked_again_and_others_do_not_wait(account: Account) -> None:
    calls: list[str] = []

    async def failing(request: web.Request) -> web.Response:
        calls.append(request.query["key"])
        is_away = calls[-1] == ANN and "ben" not in calls
        return web.Response(status=503 if is_away else 204)

    async with scripted(failing) as url, account.worker(url):
        first, second = await account.request(), await account.request(identifier="ben")
        for made in (second, first):
            await account.until(made)
    assert (calls[0], calls[-1], calls.count("ben")) == (ANN, ANN, 1)


async def test_failure_once_the_deadline_has_passed(account: Account) -> None:
    async def away(request: web.Request) -> web.Response:
        return web.Response(status=503)

    made = await account.request()
    async with scripted(away) as url:
        async with account.worker(url):
            await account.until(made, "processing")
        async with account.worker(url, ahead=timedelta(days=31)):
            failed = await account.until(made, "failure")
    assert failed["completed_at_time"]


async def test_one_worker_works_at_a_time(account: Account) -> None:
    under_way, most, calls = 0, 0, 0

    async def counting(request: web.Request) -> web.Response:
        nonlocal under_way, most, calls
        under_way, calls = under_way + 1, calls + 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        return web.Response(status=204)

    async with scripted(counting) as url, account.worker(url), account.worker(url):
        for made in [await account.request(identifier=f"v{number}") for number in range(6)]:
            await account.until(made)
    assert (most, calls) == (1, 6)


async def test_kill_9_loses_no_request(account: Account, tmp_path: Path) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def hanging(request: web.Request) -> web.Response:
        reached.set()
        await released.wait()
        return web.Response(status=204)

    made = await account.request()
    async with scripted(hanging) as url:
        variables = {EXPERIMENTS_URL: account.experiments.url, RESULTS_URL: url}
        log = tmp_path / "projects.log"
        async with killed_projects_service(account.projects.database_url, log, **variables):
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await reached.wait()
        released.set()
        killed = await account.until(made, "processing")
    # Until its lease has run out, nobody else works.
    async with account.worker():
        await asyncio.sleep(0.2)
        assert (await account.until(made, "processing")) == killed
    async with account.worker(ahead=TERM):
        completed = await account.until(made)
    assert completed["processing_started_time"] == killed["processing_started_time"]
    assert await account.visitors() == 1


async def test_without_the_addresses_requests_stay_pending_and_the_log_says_why(
    serve: Serve, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(EXPERIMENTS_URL, account.experiments.url)
    monkeypatch.delenv(RESULTS_URL, raising=False)
    await serve("projects")
    assert f"{RESULTS_URL} not set: subject access requests stay pending" in caplog.text


async def export(account: Account, made: Any) -> dict[str, list[Any]]:
    """The files of a request's export, their lines parsed."""
    status, body = await account.projects.get(f"/subject_access_requests/{made['id']}/export")
    assert (status, body["id"]) == (200, made["id"])
    with zipfile.ZipFile(io.BytesIO(b64decode(body["content"]))) as archive:
        return {
            name: [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
        }


async def test_access_exports_all_that_is_stored_under_the_visitors_id(account: Account) -> None:
    async with account.worker():
        completed = await account.until(await account.request("access"))
    ended, expires = (
        datetime.fromisoformat(completed[f"{name}_time"]) for name in ("completed_at", "expired_at")
    )
    assert expires - ended == timedelta(days=7)
    assert completed["export_location"] == f"{PUBLIC_URL}/v2/subject-access-requests/{completed['id']}/export"
    files = await export(account, completed)
    lines = files["visitor.jsonl"]
    assert [line["type"] for line in lines] == ["attribute", "decision", "event", "event"]
    attributes, decision, _, purchase = lines
    assert (attributes["key"], attributes["value"]) == ("plan", "gold")
    assert (decision["experiment_id"], decision["variation_id"]) == (EXPERIMENT, CONTROL)
    assert (purchase["key"], purchase["revenue"]) == ("purchase", 500)
    (entry,) = files["whitelists.jsonl"]
    assert (entry["experiment_id"], entry["user_id"]) == (account.experiment_id, ANN)
    assert await account.visitors() == 2


async def test_access_by_other_identifiers_is_completed_with_an_empty_export(account: Account) -> None:
    async with account.worker():
        completed = await account.until(await account.request("access", identifier_type="dcp_id"))
    assert await export(account, completed) == {}


async def test_404_for_an_export_before_its_completion_and_from_its_expiry_on(account: Account) -> None:
    made = await account.request("access")
    path = f"/subject_access_requests/{made['id']}/export"
    assert (await account.projects.get(path))[0] == 404
    async with account.worker(ahead=-timedelta(days=7)):
        await account.until(made)
    assert (await account.projects.get(path))[0] == 404


async def test_expired_exports_are_removed(account: Account) -> None:
    async with account.worker():
        await account.until(await account.request("access"))
    database = Database(account.projects.database_url)
    async with account.worker(ahead=timedelta(days=7)), asyncio.timeout(LONGEST_WAIT_SECONDS):
        while True:
            async with database.snapshot() as connection:
                if not (await connection.execute(select(subject_access_exports))).all():
                    break
            await asyncio.sleep(0.02)
    await database.close()
