"""What a search costs with many entities: `python -m tests.services.benchmark_search`.

A real experiments service answers over HTTP, on SQLite or on PostgreSQL (TEST_POSTGRESQL_URL), in an account with
100,000 entities. Printed are the milliseconds from each request to its response, median and least of 15, which need a
machine that does nothing else, and the milliseconds of CPU time of one, which need none.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.search.index import fill
from tests.services.crowd import ACCOUNT, FIRST_ID, FIRST_PROJECT, insert_crowd
from tests.services.measuring import run

ENTITIES = 100_000
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


async def _prepare(connection: AsyncConnection) -> None:
    await insert_crowd(connection, ENTITIES)
    await connection.run_sync(fill)


if __name__ == "__main__":
    paths = {name: f"/search?account_id={ACCOUNT}&{question}" for name, question in QUESTIONS.items()}
    run(__doc__ or "", paths, _prepare, LIMIT_MILLISECONDS)
