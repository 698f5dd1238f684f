"""How long a service's questions take over HTTP, and how much CPU time they cost it and its database."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.database import Database, migrate_async
from tests.services.conftest import Caller, own_postgresql_database, running
from tests.services.databases import administering
from tests.support import samples

REPEATS = 15
PREPARED = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True)
class Cost:
    """Of one question: how many items there are, and what its response cost, in milliseconds."""

    total: int
    median: float
    least: float
    own_cpu: float  # of this process: the service and its client
    database_cpu: float  # of PostgreSQL's processes; SQLite is in this one


async def cost_of(caller: Caller, path: str) -> Cost:
    """Ask several times for the list at the path, and insist on 200."""
    seconds, body = [], {}
    await caller.get(path)
    own, database = time.process_time(), await _cpu_of_database(caller.database_url)
    for _ in range(REPEATS):
        started = time.perf_counter()
        status, body = await caller.get(path)
        seconds.append(time.perf_counter() - started)
        assert status == 200, body
    own = time.process_time() - own
    database = await _cpu_of_database(caller.database_url) - database
    each = 1e3 / REPEATS
    return Cost(
        body["total"], 1e3 * statistics.median(seconds), 1e3 * min(seconds), each * own, each * database
    )


async def _cpu_of_database(url: str) -> float:
    """The seconds that the connections' processes on this machine have computed, without workers that they start."""
    if not url.startswith("postgresql"):
        return 0.0
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with administering(url) as connection:
        pids = [row["pid"] for row in await connection.fetch(query)]
    return sum(map(_cpu_of_process, pids))


def _cpu_of_process(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def _prepared(url: str, prepare: PREPARED) -> None:
    await migrate_async(url, SERVICES["experiments"].migrations)
    database = Database(url)
    async with database.transaction() as connection:
        await prepare(connection)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not database.is_sqlite:
            await connection.execute(text("VACUUM ANALYZE"))
    await database.close()


async def _measure(
    kind: str, url: str, questions: Mapping[str, str], prepare: PREPARED, limit: float
) -> None:
    async with AsyncExitStack() as stack:
        if not url:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            is_file = kind == "sqlite"
            url = (
                f"sqlite:///{Path(folder) / 'experiments.sqlite3'}"
                if is_file
                else await stack.enter_async_context(own_postgresql_database())
            )
            await _prepared(url, prepare)
        table = Table(title=make_url(url).get_backend_name())
        for name in ("question", "found", "median ms", "least ms", "CPU ms", "database's CPU ms"):
            table.add_column(name, justify="left" if name == "question" else "right")
        application = SERVICES["experiments"].create_application(url)
        caller = await stack.enter_async_context(running(application, url))
        for name, path in questions.items():
            cost = await cost_of(caller, path)
            figures = (cost.median, cost.least, cost.own_cpu, cost.database_cpu)
            style = "red" if cost.own_cpu + cost.database_cpu > limit else ""
            table.add_row(name, f"{cost.total:,}", *(f"{figure:.1f}" for figure in figures), style=style)
        Console(width=120).print(table)


def run(description: str, questions: Mapping[str, str], prepare: PREPARED, limit: float) -> None:
    """Measure on the database that the command line names; red is what costs more CPU time than `limit`, in ms."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", nargs="?", default="sqlite", choices=["sqlite", "postgresql"])
    parser.add_argument("--url", default="", help="a database that holds the data already")
    arguments = parser.parse_args()
    os.environ["SERVICES_KEY"] = samples.SERVICES_KEY
    asyncio.run(_measure(arguments.database, arguments.url, questions, prepare, limit))
