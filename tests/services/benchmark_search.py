"""What a search costs with many entities: `python -m tests.services.benchmark_search`.

A real experiments service answers over HTTP, on SQLite or on PostgreSQL (TEST_POSTGRESQL_URL), in an account with
100,000 entities. Printed are the milliseconds of each question, the median and the least of 15, from the request to
its answer in this same process: the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from optimizely_api.services.experiments.search.index import fill
from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.database import Database, migrate_async
from tests.services.conftest import Caller, own_postgresql_database, running
from tests.services.crowd import ACCOUNT, FIRST_ID, FIRST_PROJECT, insert_crowd
from tests.support import samples

REPEATS = 15
LIMIT_MILLISECONDS = 50
QUESTIONS = {
    "everything": "",
    "page 100 of everything": "page=100",
    "archived too": "archived=true",
    "one project": f"project_id={FIRST_PROJECT}",
    "one kind": "type=feature",
    "running": "status=running",
    "an audience": f"audience_id={FIRST_ID + 1}",
    "an environment": "environment_key=production",
    "sorted by name": "sort=name",
    "sorted by created": "sort=created&order=desc",
    "sorted by id": "sort=id",
    "sorted by status": "sort=status",
    "sorted by experiment_type": "sort=experiment_type",
    "a number in one name": f"query={FIRST_ID + 54321}",
    "a word in 1 of 15 names": "query=checkout",
    "its middle": "query=heckou",
    "two words": "query=check+bask",
    "the first letter typed": "query=c",
    "the second": "query=ch",
    "the third": "query=che",
    "a word, of running experiments, by name": "query=checkout&type=experiment&status=running&sort=name",
    "a word in one project": f"query=checkout&project_id={FIRST_PROJECT}",
    "in all texts: a number": f"query={FIRST_ID + 54321}&fullsearch=true",
    "in all texts: two words": "query=checkout+basket&fullsearch=true",
    "in all texts: a word in 1 of 4": "query=checkout&fullsearch=true",
}


async def _prepared(url: str, number: int) -> float:
    """Fill the database, and return how many seconds the index took."""
    await migrate_async(url, SERVICES["experiments"].migrations)
    database = Database(url)
    async with database.transaction() as connection:
        await insert_crowd(connection, number)
        started = time.perf_counter()
        await connection.run_sync(fill)
        seconds = time.perf_counter() - started
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))
    await database.close()
    return seconds


async def _measure(caller: Caller, question: str) -> tuple[int, list[float]]:
    path, seconds, total = f"/search?account_id={ACCOUNT}&{question}", [], 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        status, body = await caller.get(path)
        seconds.append(time.perf_counter() - started)
        assert status == 200, body
        total = body["total"]
    return total, seconds


async def _run(kind: str, number: int, console: Console) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if kind == "sqlite":
            url = f"sqlite:///{Path(folder) / 'experiments.sqlite3'}"
        else:
            url = await stack.enter_async_context(own_postgresql_database())
        filled = await _prepared(url, number)
        table = Table(title=f"{kind}: {number:,} entities, indexed in {filled:.0f} s")
        for name in ("search", "found", "median ms", "least ms"):
            table.add_column(name, justify="left" if name == "search" else "right")
        application = SERVICES["experiments"].create_application(url)
        caller = await stack.enter_async_context(running(application, url))
        for name, question in QUESTIONS.items():
            total, seconds = await _measure(caller, question)
            median, least = 1e3 * statistics.median(seconds), 1e3 * min(seconds)
            style = "red" if median > LIMIT_MILLISECONDS else ""
            table.add_row(name, f"{total:,}", f"{median:.1f}", f"{least:.1f}", style=style)
        console.print(table)


def main() -> None:
    """Measure on the databases that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("databases", nargs="*", default=["sqlite"], choices=["sqlite", "postgresql"])
    parser.add_argument("--entities", type=int, default=100_000)
    arguments = parser.parse_args()
    os.environ["SERVICES_KEY"] = samples.SERVICES_KEY
    for kind in arguments.databases:
        asyncio.run(_run(kind, arguments.entities, Console(width=120)))


if __name__ == "__main__":
    main()
