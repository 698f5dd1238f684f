"""Subject access requests: persons who want to see, or have deleted, the data about them."""

import asyncio
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from optimizely_api.services.projects.subject_access.sources import Sources
from optimizely_api.services.projects.subject_access.worker import Worker
from optimizely_api.services.projects.tables import subject_access_requests
from optimizely_api.services.storage.database import Database
from tests.services.conftest import session_with_key
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

ADDRESS = "/v2/subject-access-requests"
OTHER = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
VISITOR = {
    "data_type": "visitor",
    "identifier": "visitor-4711",
    "identifier_type": "fullstack_id",
    "request_type": "access",
}
USER = {**VISITOR, "data_type": "user", "identifier": "ada@shop.example", "identifier_type": "email"}


def create(app: Any, body: dict[str, Any], headers: dict[str, str] = AUTHORIZED) -> Any:
    return app.post_json(ADDRESS, body, headers=headers, expect_errors=True)


def test_201_a_pending_request_with_its_deadline(real_app: Any, real_stack: Any) -> None:
    response = create(real_app, VISITOR)
    assert response.status_int == 201
    made = response.json
    requested, deadline = (
        datetime.fromisoformat(made.pop(name)) for name in ("requested_at_time", "sla_deadline_time")
    )
    assert deadline - requested == timedelta(days=30)
    assert made.pop("id")
    assert made == {
        **VISITOR,
        "account_id": real_stack.account_id,
        "status": "pending",
        "processing_started_time": None,
        "completed_at_time": None,
    }


def test_200_it_is_read_by_its_id_and_listed_by_id(real_app: Any) -> None:
    made = [create(real_app, body).json for body in (VISITOR, {**USER, "request_type": "delete"})]
    assert [get(real_app, f"{ADDRESS}/{one['id']}").json for one in made] == made
    listed = get(real_app, f"{ADDRESS}?per_page=100").json
    assert listed[-2:] == made
    assert listed == sorted(listed, key=lambda one: one["id"])


def test_200_lists_come_in_pages(real_app: Any) -> None:
    for _ in range(2):
        create(real_app, VISITOR)
    assert "rel=next" in get(real_app, f"{ADDRESS}?per_page=1").headers["Link"]


@pytest.mark.parametrize(
    "identifier_type", ["optimizely_end_user_id", "dcp_id", "fullstack_id", "other", "email"]
)
def test_201_visitors_are_known_by_any_identifier(real_app: Any, identifier_type: str) -> None:
    body = {**VISITOR, "identifier": "ben@shop.example", "identifier_type": identifier_type}
    assert create(real_app, body).status_int == 201


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"data_type": "user"}, "/body/identifier_type"),
        ({"identifier_type": "email"}, "/body/identifier"),
        ({"identifier": " "}, "/body/identifier"),
        ({"identifier": "x" * 356}, "/body/identifier"),
        ({"identifier_type": "cookie"}, "/body/identifier_type"),
        ({"request_type": "rectify"}, "/body/request_type"),
    ],
)
def test_400_names_the_member_that_is_wrong(real_app: Any, change: dict[str, Any], place: str) -> None:
    error = assert_error(create(real_app, {**VISITOR, **change}), 400, "bad_request")
    assert list(error["messages"]) == [place]


@pytest.mark.parametrize("name", VISITOR)
def test_400_without_a_required_member(real_app: Any, name: str) -> None:
    body = {key: value for key, value in VISITOR.items() if key != name}
    assert_error(create(real_app, body), 400, "bad_request")


def test_what_only_the_service_sets_is_ignored(real_app: Any) -> None:
    body = {**VISITOR, "status": "completed", "account_id": 1, "export_location": "https://evil.example"}
    made = create(real_app, body).json
    assert (made["status"], "export_location" in made) == ("pending", False)
    assert made["account_id"] != 1


def test_403_for_another_account_whose_list_does_not_have_it(real_app: Any) -> None:
    made = create(real_app, VISITOR).json
    response = real_app.get(f"{ADDRESS}/{made['id']}", headers=OTHER, expect_errors=True)
    assert_error(response, 403, "forbidden")
    assert made not in real_app.get(ADDRESS, headers=OTHER).json


def test_404_for_an_unknown_one(real_app: Any) -> None:
    assert_error(real_app.get(f"{ADDRESS}/99", headers=AUTHORIZED, expect_errors=True), 404, "not_found")


async def work(stack: Any, made: dict[str, Any]) -> None:
    """Run a worker of the projects service until it has completed the request."""
    database = Database(f"sqlite:///{stack.folder}/projects.sqlite3")
    async with session_with_key() as session:
        sources = Sources(session, stack.urls["experiments"], stack.urls["results"])
        async with Worker(database, sources, "http://localhost").running(), asyncio.timeout(30):
            while await status_of(database, made["id"]) != "completed":
                await asyncio.sleep(0.02)
    await database.close()


async def status_of(database: Database, request_id: int) -> str:
    columns = subject_access_requests.c
    async with database.snapshot() as connection:
        found = await connection.execute(select(columns.status).where(columns.id == request_id))
        return str(found.scalar_one())


def export_of(app: Any, made: dict[str, Any], headers: dict[str, str] = AUTHORIZED) -> Any:
    return app.get(f"{ADDRESS}/{made['id']}/export", headers=headers, expect_errors=True)


def test_200_the_export_of_a_completed_request_is_where_the_request_says(
    real_app: Any, real_stack: Any
) -> None:
    visitor, _ = real_stack.send_visitors(2, datetime.now(UTC))
    made = create(real_app, {**VISITOR, "identifier": visitor}).json
    assert_error(export_of(real_app, made), 404, "not_found")
    asyncio.run(work(real_stack, made))
    (completed,) = (one for one in get(real_app, f"{ADDRESS}?per_page=100").json if one["id"] == made["id"])
    assert completed["export_location"] == f"http://localhost{ADDRESS}/{made['id']}/export"
    response = export_of(real_app, made)
    assert (response.status_int, response.content_type) == (200, "application/zip")
    assert response.headers["Cache-Control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(response.body)) as archive:
        lines = [json.loads(line) for line in archive.read("visitor.jsonl").splitlines()]
    assert {line["type"] for line in lines} >= {"decision", "event"}
    assert_error(export_of(real_app, made, OTHER), 403, "forbidden")
    assert_error(export_of(real_app, made, {}), 401, "unauthorized")
