"""A projects service that is killed again and again loses no call of a webhook, and repeats none that it knows of."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from optimizely_api.services.http.addresses import EXPERIMENTS_URL
from optimizely_api.services.projects.delivery.settings import PRIVATE
from optimizely_api.services.projects.delivery.store import deliveries
from optimizely_api.services.storage.database import Database
from tests.services.conftest import killed_projects_service
from tests.services.webhooks.conftest import Shop
from tests.services.webhooks.receiver import Receiver

KILLS = 15
SEED = 20260301
CALL_SECONDS = 0.1  # so that most kills hit a call
LONGEST_TAKE_OVER_SECONDS = 60


def projects_service(shop: Shop, log: Path) -> AbstractAsyncContextManager[None]:
    variables = {EXPERIMENTS_URL: shop.experiments.url, PRIVATE: "on"}
    return killed_projects_service(shop.projects.database_url, log, **variables)


@pytest.mark.whole
async def test_kill_9_loses_nothing_and_repeats_only_what_was_not_stored(
    shop: Shop, receiver: Receiver, tmp_path: Path
) -> None:
    chance, summaries = random.Random(SEED), []
    await shop.webhook(receiver.url)
    receiver.seconds = CALL_SECONDS
    for _ in range(KILLS):
        async with projects_service(shop, tmp_path / "projects.log"):
            before = len(receiver.calls)
            summaries += await shop.changes(5)
            await receiver.until(lambda b=before: len(receiver.calls) >= b + 3, LONGEST_TAKE_OVER_SECONDS)  # type: ignore[misc]
            await asyncio.sleep(chance.uniform(0, 2 * CALL_SECONDS))
    async with projects_service(shop, tmp_path / "projects.log"):
        summaries += await shop.changes(5)
        everything = lambda: len({call.delivery for call in receiver.calls}) == len(summaries)  # noqa: E731
        await receiver.until(everything, LONGEST_TAKE_OVER_SECONDS)
        await _all_stored(shop)
    assert list(dict.fromkeys(call.summary for call in receiver.calls)) == summaries
    repeated = [number for number in Counter(call.delivery for call in receiver.calls).values() if number > 1]
    assert len(repeated) <= KILLS  # at most the one call that each kill hit
    print(f"{KILLS} kills, {len(summaries)} changes, {len(receiver.calls)} calls, {len(repeated)} repeated")


async def _all_stored(shop: Shop) -> None:
    database = Database(shop.projects.database_url)
    pending = select(func.count()).where(deliveries.c.state == "pending")
    async with asyncio.timeout(LONGEST_TAKE_OVER_SECONDS):
        while True:
            async with database.snapshot() as connection:
                if (await connection.execute(pending)).scalar_one() == 0:
                    break
            await asyncio.sleep(0.05)
    await database.close()
