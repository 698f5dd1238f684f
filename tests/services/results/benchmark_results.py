"""How fast events are taken and results answered: `python -m tests.services.results.benchmark_results`.

Loads an experiment through the service's own storing code (SQLite, every commit on the disk), then asks for
its results over HTTP, wholly, by interval and by segment, and for its time series. Prints the figures;
--visitors, --days and --seed change the experiment. With --http VISITORS it also posts a smaller experiment
through POST /v1/events.

What to expect: whole hours come from the rollups, in tens of milliseconds whatever the number of visitors.
Segments, and intervals with events after their end, are summed up visitor by visitor: on two busy cores 0.6 to
1.1 seconds with 300,000 visitors, and 1.4 (days 10 to 20) to 2.8 seconds (a third) with 1,000,000.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.results import create_application
from optimizely_api.services.results.ingest.batches import parse_batch
from optimizely_api.services.results.ingest.store import store
from optimizely_api.services.storage.database import Database, migrate_async
from optimizely_api.services_key import VARIABLE
from tests.services.conftest import own_postgresql_database, session_with_key
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    MINUTE,
    NOON,
    PLAN,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    attribute,
    batch,
    conversion,
    impression,
    iso,
    metric,
    question,
)
from tests.services.results.test_epochs import NINE_TO_ONE, epoch
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

DAYS = 30
DAY = 24 * HOUR
SETTLING_DAYS = 10  # from the last decision to the end of all conversions
TIME_SERIES = "time series, whole interval"
METRICS = (
    metric("unique"),
    metric("count"),
    metric("sum", field="revenue"),
    metric("unique", SIGNUP),
    metric("sum", None, field="revenue"),
)
PAUSE = NOON + 10 * DAY + 37 * MINUTE
QUESTIONS: dict[str, dict[str, Any]] = {
    "whole interval": {},
    "whole interval, start known": {"earliest": iso(NOON)},
    "from day 10 on": {"start_time": iso(NOON + 10 * 24 * HOUR + 7 * MINUTE)},
    "days 10 to 20": {
        "start_time": iso(NOON + 10 * 24 * HOUR + 7 * MINUTE),
        "end_time": iso(NOON + 20 * 24 * HOUR),
    },
    "paused on day 10 for an hour": {
        "epochs": [epoch(NOON, PAUSE), epoch(PAUSE + HOUR)],
    },
    "concluded on day 20": {"epochs": [epoch(NOON, NOON + 20 * DAY)]},
    "weights changed on day 10": {
        "epochs": [epoch(NOON, PAUSE), epoch(PAUSE, None, NINE_TO_ONE)],
        "stats_config": {"epoch_enabled": True},
    },
    "a window of 7 days": {"metrics": [{**one, "time_window": "7d"} for one in METRICS]},
    "a third of the visitors": {"segment": {"attribute_id": PLAN, "attribute_value": "gold"}},
    "a third, days 10 to 20": {
        "segment": {"browser": "chrome"},
        "start_time": iso(NOON + 10 * 24 * HOUR),
        "end_time": iso(NOON + 20 * 24 * HOUR),
    },
}


def visitors(count: int, seed: int, days: int = DAYS) -> Iterator[list[dict[str, Any]]]:
    """The entries of each visitor: a decision and, on average, one and a half to two conversions."""
    rng = random.Random(seed)
    for number in range(count):
        name = f"visitor-{rng.getrandbits(48):012x}"
        entered = NOON + number * days * DAY // count
        attributes = [
            attribute("plan", rng.choice(["gold", "silver", "none"])),
            attribute("browser", rng.choice(["chrome", "firefox", "safari"]), PLAN + 1),
        ]
        variation = rng.choice([CONTROL, TREATMENT])
        entries = [impression(name, variation, entered, attributes=attributes)]
        for _ in range(int(rng.expovariate(1.0) + rng.random())):
            at = entered + int(rng.expovariate(1 / (12 * HOUR)))
            revenue = int(rng.lognormvariate(8, 1))
            entries.append(conversion(name, rng.choice([PURCHASE, PURCHASE, SIGNUP]), at, revenue=revenue))
        yield entries


def batches(count: int, seed: int, size: int, days: int = DAYS) -> Iterator[bytes]:
    """The entries in batches of about `size` visitor entries."""
    together: list[dict[str, Any]] = []
    for entries in visitors(count, seed, days):
        together += entries
        if len(together) >= size:
            yield orjson.dumps(batch(*together))
            together = []
    if together:
        yield orjson.dumps(batch(*together))


async def load(database: Database, count: int, seed: int, days: int = DAYS) -> tuple[int, float]:
    """Store the experiment batch by batch; returns the number of events and the seconds spent storing."""
    events, spent = 0, 0.0
    for body in batches(count, seed, 5_000, days):
        started = time.perf_counter()
        parsed = parse_batch(body)
        async with database.transaction() as connection:
            events += (await connection.run_sync(store, [parsed])).events
        spent += time.perf_counter() - started
    return events, spent


async def post_all(session: aiohttp.ClientSession, url: str, bodies: list[bytes], senders: int) -> float:
    """Post every batch, `senders` at a time; returns the seconds it took."""
    waiting = iter(bodies)

    async def send() -> None:
        for body in waiting:
            async with session.post(f"{url}/v1/events", data=body) as response:
                assert response.status == 204, await response.text()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(senders):
            group.create_task(send())
    return time.perf_counter() - started


async def ask(
    session: aiohttp.ClientSession, url: str, more: dict[str, Any], what: str = ""
) -> tuple[float, dict[str, Any]]:
    """The best of three answering times, in seconds, and the answer."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        asked = question(*METRICS, **more)
        async with session.post(f"{url}/results/{EXPERIMENT}{what}", json=asked) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
        times.append(time.perf_counter() - started)
    return min(times), answer


@asynccontextmanager
async def served(url: str) -> Any:
    """The service on a database: the application, its URL and a session."""
    await migrate_async(url, "optimizely_api.services.results:migrations")
    os.environ[VARIABLE] = SERVICES_KEY
    application = create_application(url)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", free_port()).start()
        async with session_with_key() as session:
            yield application, f"http://127.0.0.1:{runner.addresses[0][1]}", session
    finally:
        await runner.cleanup()


@asynccontextmanager
async def one_database(on_postgresql: bool) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a new database, and the folder that a SQLite one lies in."""
    with tempfile.TemporaryDirectory() as folder:
        if on_postgresql:
            async with own_postgresql_database() as url:
                yield url, Path(folder)
        else:
            yield f"sqlite:///{folder}/results.sqlite3", Path(folder)


def folder_size(folder: Path) -> int:
    """The bytes of the files in the folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


async def measure_answers(
    count: int, seed: int, on_postgresql: bool = False, days: int = DAYS
) -> dict[str, float]:
    """Seconds by question, on an experiment of `count` visitors; prints them."""
    async with (
        one_database(on_postgresql) as (database_url, folder),
        served(database_url) as (application, url, session),
    ):
        events, spent = await load(application[DATABASE], count, seed, days)
        megabytes = folder_size(folder) / 1e6
        print(f"seed {seed}: {count} visitors, {events} events stored in {spent:.1f} s, {megabytes:.0f} MB")
        figures = {}
        for name, more in QUESTIONS.items():
            figures[name], answer = await ask(session, url, more)
            reach = answer["reach"]["total_count"]
            print(f"{name:30} {figures[name] * 1000:8.0f} ms  {reach} visitors, 5 metrics")
        # Of an experiment that still runs: all events lie before the end.
        so_far = {"earliest": iso(NOON), "end_time": iso(NOON + (days + SETTLING_DAYS) * DAY)}
        figures[TIME_SERIES], answer = await ask(session, url, so_far, "/timeseries")
        points = len(answer["metrics"][0]["results"][str(CONTROL)]["timeseries"])
        print(f"{TIME_SERIES:30} {figures[TIME_SERIES] * 1000:8.0f} ms  {points} points, 5 metrics")
        return figures


async def measure_posting(count: int, seed: int, size: int, senders: int) -> float:
    """Seconds to post the events of `count` visitors over HTTP; prints them."""
    bodies = list(batches(count, seed, size))
    events = sum(body.count(b'"uuid"') for body in bodies)
    with tempfile.TemporaryDirectory() as folder:
        async with served(f"sqlite:///{folder}/results.sqlite3") as (_, url, session):
            seconds = await post_all(session, url, bodies, senders)
    rate = events / seconds
    print(
        f"posted {events} events of {count} visitors in {seconds:.1f} s ({rate:.0f}/s; "
        f"{len(bodies)} batches of {size}, {senders} senders)"
    )
    return seconds


async def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--http", type=int, default=50_000, metavar="VISITORS")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--seed", type=int, default=20260131)
    parser.add_argument("--postgresql", action="store_true", help="on the server of TEST_POSTGRESQL_URL")
    options = parser.parse_args()
    if options.http:
        await measure_posting(options.http, options.seed, options.batch, options.senders)
    if options.visitors:
        await measure_answers(options.visitors, options.seed, options.postgresql, options.days)


if __name__ == "__main__":
    asyncio.run(main())
