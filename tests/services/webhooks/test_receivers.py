"""What receivers do, and which may be called at all."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from optimizely_api.services.http.server import SERVICES
from tests.services.conftest import NewDatabase
from tests.services.databases import SQLiteDatabases
from tests.services.webhooks.conftest import Clock, Shop, opened_post
from tests.services.webhooks.receiver import Receiver, receiving
from tests.support.ports import free_port

WITHIN_A_SECOND = 1.0


@pytest_asyncio.fixture
async def new_database(tmp_path: Path, sqlite_databases: SQLiteDatabases) -> NewDatabase:
    """SQLite only: what receivers do is the same with every database."""

    async def make(service: str = "") -> str:
        return await sqlite_databases.create(service, tmp_path)

    return make


async def test_a_receiver_has_a_limited_time(shop: Shop, receiver: Receiver) -> None:
    webhook = await shop.webhook(receiver.url)
    receiver.hangs = True
    async with shop.sender(Clock()):
        await shop.change()
        [item] = await shop.until(lambda found: bool(found) and found[0]["attempts"] == 1, webhook)
    assert (item["state"], item["last_error"]) == ("pending", "did not answer within 2 seconds")


async def test_a_redirect_is_not_followed(shop: Shop, receiver: Receiver) -> None:
    webhook = await shop.webhook(receiver.url)
    receiver.status, receiver.answer_headers = 307, {"Location": "/elsewhere"}
    async with shop.sender(Clock()):
        await shop.change()
        [item] = await shop.until(lambda found: bool(found) and found[0]["attempts"] == 1, webhook)
    assert item["last_error"] == "answered 307"
    assert [call.path for call in receiver.calls] == ["/hook"]


async def test_a_receiver_that_hangs_delays_no_other(shop: Shop, receiver: Receiver) -> None:
    async with receiving() as other, shop.sender(Clock()):
        await shop.webhook(receiver.url)
        await shop.webhook(other.url)
        receiver.hangs = True
        await shop.change()
        await receiver.until(lambda: len(receiver.calls) == 1)
        latencies = []
        for number in range(2, 7):
            began = time.monotonic()
            await shop.change()
            await other.until(lambda number=number: len(other.calls) == number)  # type: ignore[misc]
            latencies.append(time.monotonic() - began)
        assert median(latencies) < WITHIN_A_SECOND
        assert len(receiver.calls) == 1
        receiver.hangs = False


async def test_a_new_secret_signs_what_follows(shop: Shop, receiver: Receiver) -> None:
    webhook = await shop.webhook(receiver.url)
    status, answer = await shop.projects.post(f"/webhooks/{webhook['id']}/secret")
    assert (status, len(answer["secret"]) >= 32) == (201, True)
    async with shop.sender(Clock()):
        await shop.change()
        await receiver.until(lambda: len(receiver.calls) == 1)
    [call] = receiver.calls
    digest = hmac.new(answer["secret"].encode(), call.raw, hashlib.sha1).hexdigest()
    assert call.headers["X-Hub-Signature"] == f"sha1={digest}"


async def test_an_experiments_service_that_is_away_delays_and_loses_nothing(
    shop: Shop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.webhook(receiver.url)
    summaries, port = await shop.changes(2), free_port()
    shop.experiments.url = f"http://127.0.0.1:{port}"
    async with shop.sender(Clock()):
        async with asyncio.timeout(20):
            while "the feed of changes cannot be read, webhooks wait" not in caplog.text:
                await asyncio.sleep(0.01)
        runner = web.AppRunner(SERVICES["experiments"].create_application(shop.experiments.database_url))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await receiver.until(lambda: len(receiver.calls) == 2)
    await runner.cleanup()
    assert [call.summary for call in receiver.calls] == summaries


async def test_a_corrected_address_is_called_at_once(shop: Shop, receiver: Receiver) -> None:
    clock = Clock()
    async with receiving() as wrong, shop.sender(clock):
        wrong.status = 404
        webhook = await shop.webhook(wrong.url)
        summary = await shop.change()
        await shop.until(lambda found: bool(found) and found[0]["attempts"] == 1, webhook)
        await shop.projects.patch(f"/webhooks/{webhook['id']}", {"url": receiver.url})
        await receiver.until(lambda: len(receiver.calls) == 1)
    assert receiver.calls[0].summary == summary
    assert len(wrong.calls) == 1


async def test_404_for_what_is_no_webhook(shop: Shop) -> None:
    assert (await shop.projects.get("/webhooks/99/deliveries"))[0] == 404
    assert (await shop.projects.post("/webhooks/99/secret"))[0] == 404


# Addresses


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0", "0"]
)
async def test_a_private_address_is_not_connected_to_however_it_is_written(
    receiver: Receiver, host: str
) -> None:
    port = receiver.url.rpartition(":")[2]
    async with opened_post(allow_private=False) as posting:
        error = await posting(f"http://{host}:{port}", {}, b"{}")
    assert error is not None
    assert "is not a public address" in error or "is not a canonical IPv4 address" in error
    assert receiver.calls == []


async def test_a_name_that_leads_to_a_private_address_is_checked_at_the_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second resolution: the address that is checked is the one that is connected to."""
    loop, asked = asyncio.get_running_loop(), []
    original = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        asked.append(host)
        return await original("127.0.0.1" if host == "rebinding.example" else host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    url = receiver.url.replace("127.0.0.1", "rebinding.example")
    async with opened_post(allow_private=False) as refusing, opened_post() as allowing:
        error = await refusing(url, {}, b"{}")
        assert error == "cannot be reached: 127.0.0.1 is not a public address"
        assert receiver.calls == []
        assert asked == ["rebinding.example"]
        assert await allowing(url, {}, b"{}") is None
    assert len(receiver.calls) == 1
