"""Webhooks are called: signed, in order, until the receiver acknowledges, and no receiver waits for another."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest
from sqlalchemy import update

from optimizely_api.contract.times import read_time
from optimizely_api.services.http.addresses import EXPERIMENTS_URL
from optimizely_api.services.projects.delivery import store
from optimizely_api.services.projects.delivery.schedule import RETRIES
from optimizely_api.services.projects.delivery.settings import PRIVATE, PUBLIC_URL
from optimizely_api.services.projects.lease import RENEWAL, TERM, LeaseHolder
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Serve
from tests.services.webhooks.conftest import TIME_LIMIT_SECONDS, Clock, Shop, opened_post
from tests.services.webhooks.receiver import Receiver, receiving

WITHIN_A_SECOND = 1.0


async def test_a_change_calls_its_webhook_within_a_second(
    serve: Serve, shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXPERIMENTS_URL, shop.experiments.url)
    monkeypatch.setenv(PRIVATE, "on")
    monkeypatch.setenv(PUBLIC_URL, "https://api.shop.example/")
    await serve("projects", shop.projects.database_url)  # a worker as an operator starts it
    await shop.webhook(receiver.url)
    await shop.change()
    await receiver.until(lambda: len(receiver.calls) == 1)
    latencies = []
    for number in range(2, 6):
        began = time.monotonic()
        await shop.change()
        await receiver.until(lambda number=number: len(receiver.calls) == number)  # type: ignore[misc]
        latencies.append(receiver.calls[-1].at - began)
    assert median(latencies) < WITHIN_A_SECOND


async def test_a_call_is_signed_and_has_the_change_in_the_shape_of_the_history(
    shop: Shop, receiver: Receiver
) -> None:
    webhook = await shop.webhook(receiver.url)
    async with shop.sender(Clock()):
        summary = await shop.change()
        await receiver.until(lambda: len(receiver.calls) == 1)
    [call] = receiver.calls
    for name, algorithm in (("X-Hub-Signature", "sha1"), ("X-Hub-Signature-256", "sha256")):
        digest = hmac.new(b"s" * 32, call.raw, getattr(hashlib, algorithm)).hexdigest()
        assert call.headers[name] == f"{algorithm}={digest}"
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["User-Agent"] == "optimizely-api-webhook"
    [delivery] = await shop.deliveries(webhook)
    assert (delivery["id"], delivery["state"], delivery["attempts"]) == (call.delivery, "delivered", 1)

    [record] = (await shop.experiments.get("/changes"))[1]["items"]
    entity = record["entity"]
    expected = {
        "change_type": "create",
        "summary": summary,
        "entity": {
            **entity,
            "api_url": f"https://api.shop.example/v2/attributes/{entity['id']}",
            "ui_url": "https://api.shop.example/docs",
        },
        "user": record["user"],
        "changes": record["changes"],
    }
    assert call.body == {
        "project_id": shop.owner["project_id"],
        "timestamp": call.body["timestamp"],
        "event": "project.attribute_created",
        "data": [expected],
    }
    assert abs(call.body["timestamp"] - time.time()) < 60


async def test_each_environment_whose_datafile_changed_is_called_about_within_a_second(
    serve: Serve, shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXPERIMENTS_URL, shop.experiments.url)
    monkeypatch.setenv(PRIVATE, "on")
    await serve("projects", shop.projects.database_url)
    environments = await shop.named_environments()
    await shop.webhook(receiver.url, "project.datafile_updated")
    latencies = []
    for number in range(1, 4):
        began = time.monotonic()
        await shop.change()
        await receiver.until(lambda number=number: len(receiver.calls) == 2 * number)  # type: ignore[misc]
        calls = receiver.calls[-2:]
        assert {call.body["data"]["environment"] for call in calls} == {"Production", "Development"}
        for call in calls:
            data = call.body["data"]
            assert call.at - began >= 0.5  # a gateway's worker may serve the one before for half a second
            key = environments[data["environment"]]["datafile"]["sdk_key"]
            assert data["cdn_url"] == data["origin_url"] == f"http://127.0.0.1:6543/datafiles/{key}.json"
            _, served = await shop.experiments.get(f"/datafiles/{key}")
            assert data["revision"] == served["revision"] == number + 1
        latencies.append(calls[1].at - began)
    assert median(latencies) < WITHIN_A_SECOND


async def test_each_revision_of_a_snippet_is_called_about_once_and_in_order(
    shop: Shop, receiver: Receiver
) -> None:
    await shop.named_snippet()
    await shop.webhook(receiver.url, "project.snippet_updated")
    clock, latest = Clock(), 0
    for _ in range(2):  # the second sender reads on where the first has stopped
        async with shop.sender(clock):
            for _ in range(2):
                await shop.pages(2)
                latest = (await shop.named_snippet())["revision"]
                await receiver.until(lambda latest=latest: latest in revisions_of(receiver))  # type: ignore[misc]
    project_id = shop.owner["project_id"]
    assert len({call.delivery for call in receiver.calls}) == len(receiver.calls)
    assert revisions_of(receiver) == list(range(2, latest + 1))
    call = receiver.calls[-1]
    assert call.body == {
        "project_id": project_id,
        "timestamp": call.body["timestamp"],
        "event": "project.snippet_updated",
        "data": {
            "revision": latest,
            "origin_url": f"https://api.shop.example/v2/projects/{project_id}",
            "cdn_url": f"https://api.shop.example/v2/projects/{project_id}",
        },
    }
    digest = hmac.new(b"s" * 32, call.raw, hashlib.sha256).hexdigest()
    assert call.headers["X-Hub-Signature-256"] == f"sha256={digest}"


def revisions_of(receiver: Receiver) -> list[int]:
    return [call.body["data"]["revision"] for call in receiver.calls]


async def test_a_snippet_that_nobody_listens_to_is_not_built_for_webhooks(
    shop: Shop, receiver: Receiver
) -> None:
    before = await shop.named_snippet()
    await shop.webhook(receiver.url)
    async with shop.sender(Clock()):
        await shop.pages(1)
        await shop.change()
        await receiver.until(lambda: len(receiver.calls) == 1)
        await shop.pages(1)
    assert (await shop.named_snippet())["revision"] == before["revision"] + 1


async def test_changes_of_environments_and_of_the_project_have_calls(shop: Shop, receiver: Receiver) -> None:
    events = ["environment_created", "environment_updated", "environment_archived", "project_setting_updated"]
    await shop.webhook(receiver.url, *(f"project.{event}" for event in events))
    async with shop.sender(Clock()):
        made = await shop.projects.made("/environments", {**shop.owner, "key": "qa", "name": "QA"})
        await shop.projects.patch(f"/environments/{made['id']}", {"name": "Test"})
        await shop.projects.call("DELETE", f"/environments/{made['id']}")
        await shop.projects.patch(f"/projects/{shop.owner['project_id']}", {"description": "Shoes"})
        await receiver.until(lambda: len(receiver.calls) == len(events))
    assert [call.body["event"] for call in receiver.calls] == [f"project.{event}" for event in events]
    changes = [call.body["data"][0]["changes"] for call in receiver.calls]
    assert changes[1] == [
        {"property": "name", "description": "Changed name", "before": "QA", "after": "Test"}
    ]
    assert changes[3][0]["after"] == "Shoes"


async def test_a_receiver_that_is_down_for_ten_minutes_gets_everything_once_and_in_order(
    shop: Shop, receiver: Receiver
) -> None:
    webhook, clock = await shop.webhook(receiver.url), Clock()
    receiver.status = 503
    async with shop.sender(clock):
        summaries = []
        for minute in range(10):
            summaries += await shop.changes(2)
            await _stored(shop, webhook, len(summaries))
            await _attempted(shop, webhook, 1 if minute == 0 else 2 if minute < 6 else 3)
            clock.move(minutes=1)
        receiver.status = 204
        clock.move(minutes=26)  # half an hour after the third attempt
        await receiver.until(lambda: len(receiver.acknowledged) == len(summaries))
    assert [call.summary for call in receiver.acknowledged] == summaries
    # While it was down, one call of 20 was attempted, after 0, 1 and 6 minutes.
    assert [call.summary for call in receiver.calls if call.status == 503] == [summaries[0]] * 3
    assert {item["state"] for item in await shop.deliveries(webhook)} == {"delivered"}


async def _stored(shop: Shop, webhook: Any, count: int) -> None:
    await shop.until(lambda found: len(found) == count, webhook)


async def _attempted(shop: Shop, webhook: Any, times: int) -> None:
    await shop.until(lambda found: bool(found) and found[0]["attempts"] == times, webhook)


async def test_a_call_is_given_up_after_the_last_of_the_retries(shop: Shop, receiver: Receiver) -> None:
    webhook, clock = await shop.webhook(receiver.url), Clock()
    receiver.status = 500
    async with shop.sender(clock):
        lost = await shop.change()
        for number, delay in enumerate(RETRIES, start=1):
            await _attempted(shop, webhook, number)
            clock.move(seconds=delay.total_seconds())
        [given_up] = await shop.until(lambda found: found[0]["state"] == "given_up", webhook)
        receiver.status = 200
        following = await shop.change()
        await receiver.until(lambda: len(receiver.acknowledged) == 1)
    assert (given_up["attempts"], given_up["last_error"], given_up["next_attempt"]) == (
        7,
        "answered 500",
        None,
    )
    assert [call.summary for call in receiver.calls] == [lost] * 7 + [following]
    assert len({call.delivery for call in receiver.calls}) == 2


async def test_of_two_senders_one_works_and_the_other_follows_it(shop: Shop, receiver: Receiver) -> None:
    await shop.webhook(receiver.url)
    clock = Clock()
    async with shop.sender(clock):
        async with shop.sender(clock):
            first = await shop.changes(10)
            await receiver.until(lambda: len(receiver.calls) >= 10)
        # Whichever of them worked, the other one does now, without waiting for a lease to run out.
        second = await shop.changes(10)
        await receiver.until(lambda: len(receiver.calls) >= 20)
    assert [call.summary for call in receiver.calls] == first + second


async def test_a_sender_that_ends_in_the_middle_of_its_work_loses_and_repeats_nothing_it_has_stored(
    shop: Shop, receiver: Receiver
) -> None:
    webhook, clock, summaries, crashes = await shop.webhook(receiver.url), Clock(), [], 5
    receiver.seconds = 0.02
    for _ in range(crashes):
        async with shop.crashing_sender(clock):
            summaries += await shop.changes(3)
            got = len(receiver.calls)
            await receiver.until(lambda got=got: len(receiver.calls) > got)  # type: ignore[misc]
        clock.move(seconds=TERM.total_seconds())  # nobody gives back the lease of a process that was killed
    async with shop.sender(clock):
        await shop.until(lambda found: _all_delivered(found, len(summaries)), webhook)
    assert list(dict.fromkeys(call.summary for call in receiver.calls)) == summaries
    assert len(receiver.calls) - len(summaries) <= crashes  # at most the call that each crash hit


def _all_delivered(found: list[Any], count: int) -> bool:
    return len(found) == count and {item["state"] for item in found} == {"delivered"}


async def test_a_call_whose_acknowledgement_was_not_stored_comes_again_with_the_same_id(
    shop: Shop, receiver: Receiver
) -> None:
    """At least once: nobody can store the answer and end before it at once."""
    webhook = await shop.webhook(receiver.url)
    async with opened_post() as posting:

        class Dying:
            time_limit_seconds = posting.time_limit_seconds
            died = 0

            async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
                answer = await posting(url, headers, body)
                if self.died == 0:
                    self.died += 1
                    raise SystemError("killed after the answer, before it was stored")
                return answer

        async with shop.sender(Clock(), Dying()):
            await shop.change()
            await shop.until(lambda found: bool(found) and found[0]["state"] == "delivered", webhook)
    first, second = receiver.calls
    assert (first.delivery, first.raw) == (second.delivery, second.raw)


async def test_a_webhook_without_events_is_silent_also_about_what_waits(
    shop: Shop, receiver: Receiver
) -> None:
    webhook, clock = await shop.webhook(receiver.url), Clock()
    receiver.status = 500
    async with shop.sender(clock):
        await shop.changes(2)
        await shop.until(lambda found: len(found) == 2 and found[0]["attempts"] == 1, webhook)
        await shop.projects.patch(f"/webhooks/{webhook['id']}", {"events": []})
        await shop.until(lambda found: {item["state"] for item in found} == {"dropped"}, webhook)
        await shop.change()
        await _is_read(shop, clock)
    assert len(receiver.calls) == 1
    assert len(await shop.deliveries(webhook)) == 2


async def _is_read(shop: Shop, clock: Clock) -> None:
    """Wait until the sender has read all changes, as another webhook shows."""
    async with receiving() as other:
        await shop.webhook(other.url)
        last = await shop.change()
        await other.until(lambda: last in [call.summary for call in other.calls])


async def test_a_webhook_that_was_deleted_is_silent(shop: Shop, receiver: Receiver) -> None:
    webhook, clock = await shop.webhook(receiver.url), Clock()
    receiver.status = 500
    async with shop.sender(clock):
        await shop.changes(2)
        await shop.until(lambda found: len(found) == 2 and found[0]["attempts"] == 1, webhook)
        status, _ = await shop.projects.call("DELETE", f"/webhooks/{webhook['id']}")
        assert status == 204
        await shop.change()
        clock.move(minutes=2)
        await _is_read(shop, clock)
    assert len(receiver.calls) == 1


async def test_a_webhook_hears_nothing_from_before_it(shop: Shop, receiver: Receiver) -> None:
    await shop.changes(3)
    webhook = await shop.webhook(receiver.url)
    summary = await shop.change()
    async with shop.sender(Clock()):  # which reads all four changes
        await receiver.until(lambda: len(receiver.calls) >= 1)
    assert [call.summary for call in receiver.calls] == [summary]
    assert len(await shop.deliveries(webhook)) == 1


async def test_a_new_webhook_hears_changes_that_a_clock_behind_dates_before_it(
    shop: Shop, receiver: Receiver
) -> None:
    ahead = timedelta(minutes=1)

    class Ahead(Clock):
        def now(self) -> datetime:
            return datetime.now(UTC) + ahead

    webhook, database = await shop.webhook(receiver.url), Database(shop.projects.database_url)
    this_one = update(store.webhooks).where(store.webhooks.c.id == webhook["id"])
    async with database.transaction() as connection:
        await connection.execute(this_one.values(created=read_time(webhook["created"]) + ahead))
    await database.close()
    async with shop.sender(Ahead()):
        summary = await shop.change()
        await receiver.until(lambda: len(receiver.calls) == 1)
    assert receiver.calls[0].summary == summary


async def test_one_sender_at_a_time_has_the_lease_and_stores_deliveries(shop: Shop) -> None:
    now, database = Clock().now(), Database(shop.projects.database_url)
    until = now + TERM
    async with database.transaction() as connection:
        assert await store.LEASE.take(connection, "first", now, until)
        assert not await store.LEASE.take(connection, "second", until - RENEWAL, until + TERM)
        assert not await store.LEASE.may_take(connection, "second", until - RENEWAL)
        assert await store.LEASE.take(connection, "first", until - RENEWAL, until)
    with pytest.raises(store.LeaseLost):
        async with database.transaction() as connection:
            await store.store_messages(connection, "second", "changes", 5, [], now)
    async with database.transaction() as connection:
        assert await store.position(connection, "changes") == 0
        assert await store.LEASE.take(connection, "second", until, until + TERM)
        assert not await store.LEASE.take(connection, "first", until, until + TERM)
        await store.store_messages(connection, "second", "changes", 5, [], now)
        assert await store.position(connection, "changes") == 5
    await database.close()


async def test_a_sender_keeps_the_lease_while_it_prolongs_it_and_no_longer(shop: Shop) -> None:
    clock, database = Clock(), Database(shop.projects.database_url)
    working, waiting = (LeaseHolder(database, store.LEASE, clock.now) for _ in range(2))
    assert await working.holds()
    for _ in range(2 * TERM // RENEWAL):
        clock.move(seconds=RENEWAL.total_seconds())
        assert not await waiting.holds()
        assert await working.holds()
    clock.move(seconds=TERM.total_seconds())
    assert working.seconds_left <= 0
    assert await waiting.holds()
    assert not await working.holds()
    await waiting.let_go()
    assert await working.holds()
    await database.close()


async def test_a_call_begins_only_while_the_lease_outlasts_it(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, due_delivery, left = Clock(), store.due_delivery, list[float]()
    database_takes = [TERM.total_seconds() - TIME_LIMIT_SECONDS / 2]  # the first time

    async def due_after_a_while(*given: Any) -> Any:
        delivery = await due_delivery(*given)
        if delivery is not None and database_takes:
            clock.move(seconds=database_takes.pop())
        return delivery

    monkeypatch.setattr(store, "due_delivery", due_after_a_while)
    await shop.webhook(receiver.url)
    await shop.change()
    async with opened_post() as posting:

        class Noting:
            time_limit_seconds = posting.time_limit_seconds

            async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
                left.append(sender._lease.seconds_left)
                return await posting(url, headers, body)

        async with shop.sender(clock, Noting()) as sender:
            await receiver.until(lambda: len(receiver.calls) == 1)
    assert not database_takes
    assert min(left) > TIME_LIMIT_SECONDS


async def test_a_webhook_hears_what_it_listens_to(shop: Shop, receiver: Receiver) -> None:
    webhook = await shop.webhook(receiver.url, "project.attribute_archived", "project.audience_created")
    async with shop.sender(Clock()):
        made = await shop.experiments.made("/attributes", {**shop.owner, "key": "plan"})
        await shop.experiments.call("DELETE", f"/attributes/{made['id']}")
        await receiver.until(lambda: len(receiver.calls) == 1)
    assert receiver.calls[0].body["event"] == "project.attribute_archived"
    assert len(await shop.deliveries(webhook)) == 1
