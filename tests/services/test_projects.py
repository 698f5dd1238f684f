"""The projects service: accounts, tokens, projects."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select

from optimizely_api.http.entity_tags import version_tag
from optimizely_api.services.projects.tables import tokens
from optimizely_api.services.projects.webhooks import WEBHOOKS
from optimizely_api.services.storage.database import Database
from optimizely_api.serving.log import JSONLines
from tests.services.conftest import Caller, Serve, migrate_to


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
async def account_id(projects: Caller) -> int:
    return int((await projects.made("/accounts", {"name": "Fern & Oak"}))["id"])


async def make(projects: Caller, account_id: int, **given: Any) -> Any:
    return await projects.made("/projects", {"account_id": account_id, "name": "Shop", **given})


async def test_201_shows_a_new_token_once(projects: Caller, account_id: int) -> None:
    made = await projects.made(f"/accounts/{account_id}/tokens", {"name": "laptop"})
    assert made["token"].startswith("2:")
    status, known = await projects.get(f"/tokens/{sha256(made['token'])}")
    assert status == 200
    shown = {name: made[name] for name in ("token_id", "account_id", "name", "created")}
    assert known == {**shown, "token_sha256": sha256(made["token"])}


async def test_no_log_holds_the_hash_of_a_token(
    projects: Caller, account_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = await projects.made(f"/accounts/{account_id}/tokens", {"name": "laptop"})
    hashes = [sha256(made["token"]), sha256("unknown")]
    with caplog.at_level("DEBUG"):
        for token_sha256, end in itertools.product(hashes, ("", "/", "/x", "?x=y")):
            await projects.get(f"/tokens/{token_sha256}{end}")
        database = Database(projects.database_url)
        async with database.transaction() as connection:
            await connection.run_sync(tokens.drop)  # now its errors are logged, statements included
        await database.close()
        for token_sha256 in hashes:
            assert (await projects.get(f"/tokens/{token_sha256}"))[0] >= 500
    written = "\n".join(
        JSONLines().format(record) for record in caplog.records if record.name.startswith("optimizely")
    )
    assert "/tokens/" in written
    assert "Traceback" in written or "the database failed" in written
    assert not any(token_sha256 in written for token_sha256 in hashes)


async def test_a_token_of_the_callers_choice_is_known_by_its_hash(projects: Caller, account_id: int) -> None:
    given = {"name": "mine", "token_sha256": sha256("2:mine")}
    made = await projects.made(f"/accounts/{account_id}/tokens", given)
    assert "token" not in made
    known = {**made, "token_sha256": sha256("2:mine")}
    assert (await projects.get(f"/tokens/{sha256('2:mine')}"))[1] == known
    assert await projects.made(f"/accounts/{account_id}/tokens", given) == made


async def test_409_for_a_token_of_another_account(projects: Caller, account_id: int) -> None:
    given = {"name": "mine", "token_sha256": sha256("2:mine")}
    await projects.made(f"/accounts/{account_id}/tokens", given)
    other = await projects.made("/accounts", {"name": "Other"})
    assert (await projects.post(f"/accounts/{other['id']}/tokens", given))[0] == 409


async def test_404_for_an_unknown_or_revoked_token(projects: Caller, account_id: int) -> None:
    made = await projects.made(f"/accounts/{account_id}/tokens", {"name": "lost"})
    path = f"/accounts/{account_id}/tokens/{made['token_id']}"
    assert await projects.delete(path) == (204, None)
    assert (await projects.delete(path))[0] == 404
    assert (await projects.get(f"/tokens/{sha256(made['token'])}"))[0] == 404
    assert (await projects.get(f"/tokens/{'0' * 64}"))[0] == 404
    assert (await projects.get("/tokens/short"))[0] == 404


async def test_the_list_of_tokens_says_which_are_revoked_and_shows_no_secret(
    projects: Caller, account_id: int
) -> None:
    first, second = [
        await projects.made(f"/accounts/{account_id}/tokens", {"name": name}) for name in ("one", "two")
    ]
    await projects.delete(f"/accounts/{account_id}/tokens/{first['token_id']}")
    status, listed = await projects.get(f"/accounts/{account_id}/tokens")
    assert (status, listed["total"]) == (200, 2)
    assert [item["token_id"] for item in listed["items"]] == [first["token_id"], second["token_id"]]
    assert ["revoked" in item for item in listed["items"]] == [True, False]
    assert set(listed["items"][1]) == {"token_id", "account_id", "name", "created"}
    assert (await projects.get("/accounts/9/tokens"))[0] == 404


async def test_no_token_is_ever_stored(projects: Caller, account_id: int) -> None:
    made = await projects.made(f"/accounts/{account_id}/tokens", {"name": "secret"})
    secret = made["token"].removeprefix("2:").encode()
    url = make_url(projects.database_url)
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        stored = b"".join(part.read_bytes() for part in file.parent.glob(f"{file.name}*"))
    else:
        database = Database(projects.database_url)
        async with database.snapshot() as connection:
            stored = repr((await connection.execute(tokens.select())).all()).encode()
        await database.close()
    assert sha256(made["token"]).encode() in stored
    assert secret not in stored


async def test_404_for_a_token_of_an_unknown_account(projects: Caller) -> None:
    assert (await projects.post("/accounts/1/tokens", {"name": "x"}))[0] == 404


async def test_accounts_are_found_by_name(projects: Caller, account_id: int) -> None:
    await projects.made("/accounts", {"name": "Other"})
    status, found = await projects.get("/accounts", params={"name": "Fern & Oak"})
    assert (status, found["total"]) == (200, 1)
    assert found["items"] == [(await projects.get(f"/accounts/{account_id}"))[1]]


async def test_201_a_project_has_the_contracts_defaults(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id)
    assert project["account_id"] == account_id
    assert (project["platform"], project["status"], project["is_classic"]) == ("web", "active", False)
    assert project["confidence_threshold"] == 0.9
    assert project["web_snippet"]["library"] == "jquery-1.11.3-trim"
    assert project["created"] == project["last_modified"]
    assert await projects.get(f"/projects/{project['id']}") == (200, project)


async def test_only_web_projects_have_a_snippet(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id, platform="custom", sdks=["python"])
    assert "web_snippet" not in project
    assert project["sdks"] == ["python"]


async def test_200_a_whole_project_can_be_sent_back(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id)
    status, same = await projects.patch(f"/projects/{project['id']}", {**project, "newer_field": [None]})
    assert status == 200
    changing = {"last_modified", "web_snippet"}
    assert {k: v for k, v in same.items() if k not in changing} == {
        k: v for k, v in project.items() if k not in changing
    }
    assert same["last_modified"] >= project["last_modified"]


async def test_200_patch_changes_what_may_change_and_ignores_the_rest(
    projects: Caller, account_id: int
) -> None:
    project = await make(projects, account_id)
    changes = {"name": "New", "platform": "ios", "id": 5, "web_snippet": {"include_jquery": False}}
    _, changed = await projects.patch(f"/projects/{project['id']}", changes)
    assert (changed["name"], changed["platform"], changed["id"]) == ("New", "web", project["id"])
    assert changed["web_snippet"]["include_jquery"] is False
    assert changed["web_snippet"]["exclude_names"] is True


WRONG = [
    ({"name": 7}, "/name"),
    ({"name": " "}, "/name"),
    ({"name": None}, "/name"),
    ({"confidence_threshold": 0.4}, "/confidence_threshold"),
    ({"confidence_threshold": 1}, "/confidence_threshold"),
    ({"confidence_threshold": True}, "/confidence_threshold"),
    ({"status": "gone"}, "/status"),
    ({"web_snippet": {"library": "mootools"}}, "/web_snippet/library"),
    ({"dcp_service_id": 2**53}, "/dcp_service_id"),
    ({"dcp_service_id": 1.0}, "/dcp_service_id"),
]


@pytest.mark.parametrize(("changes", "pointer"), WRONG, ids=[str(changes) for changes, _ in WRONG])
async def test_400_names_the_field_and_nothing_is_written(
    projects: Caller, account_id: int, changes: dict[str, Any], pointer: str
) -> None:
    project = await make(projects, account_id)
    status, error = await projects.patch(f"/projects/{project['id']}", {"description": "half", **changes})
    assert (status, error["code"]) == (400, "bad_request")
    assert error["message"].startswith(f"{pointer}: ")
    assert await projects.get(f"/projects/{project['id']}") == (200, project)
    assert (await projects.post("/projects", {"account_id": account_id, "name": "x", **changes}))[0] == 400
    assert (await projects.get("/projects"))[1]["total"] == 1


async def test_400_lists_every_violation(projects: Caller) -> None:
    _, error = await projects.post("/projects", {"platform": "fax", "sdks": ["cobol"]})
    for part in ('"account_id" is a required', '"name" is a required', "/platform:", "/sdks/0:"):
        assert part in error["message"]


async def test_400_for_a_body_that_is_no_object(projects: Caller) -> None:
    assert (await projects.post("/projects", [1]))[1]["message"] == "the body must be a JSON object"


async def test_404_for_a_project_of_an_unknown_account(projects: Caller) -> None:
    assert (await projects.post("/projects", {"account_id": 5, "name": "x"}))[0] == 404
    assert (await projects.get("/projects"))[1]["total"] == 0


async def test_404_for_an_unknown_project(projects: Caller) -> None:
    assert (await projects.get("/projects/1"))[0] == 404
    assert (await projects.patch("/projects/1", {}))[0] == 404


async def test_lists_have_pages_in_the_order_of_ids(projects: Caller, account_id: int) -> None:
    ids = [(await make(projects, account_id, name=f"P{number}"))["id"] for number in range(7)]
    assert ids == sorted(set(ids))
    pages = [(await projects.get(f"/projects?page={page}&per_page=3"))[1] for page in (1, 2, 3, 4)]
    assert [[item["id"] for item in page["items"]] for page in pages] == [ids[:3], ids[3:6], ids[6:], []]
    assert {page["total"] for page in pages} == {7}


async def test_lists_show_one_account_and_what_the_filters_leave(projects: Caller, account_id: int) -> None:
    other = (await projects.made("/accounts", {"name": "Other"}))["id"]
    await make(projects, other)
    await make(projects, account_id, name="A:1", platform="ios")
    await make(projects, account_id, name="B", platform="web", status="archived")

    async def names(query: str) -> list[str]:
        _, found = await projects.get(f"/projects?account_id={account_id}{query}")
        return [item["name"] for item in found["items"]]

    assert await names("") == ["A:1", "B"]
    assert await names("&filter=name:A:1") == ["A:1"]
    assert await names("&filter=platform:web&filter=status:archived") == ["B"]
    assert await names("&filter=platform:web&filter=platform:ios") == ["A:1", "B"]
    assert await names("&filter=") == ["A:1", "B"]
    ids = [item["id"] for item in (await projects.get(f"/projects?account_id={account_id}"))[1]["items"]]
    assert await names(f"&filter=id:{ids[1]}") == ["B"]
    assert await names(f"&filter=id:{ids[0]}&filter=id:{ids[1]}") == ["A:1", "B"]
    assert (await projects.get("/projects?filter=id:x"))[0] == 400
    assert (await projects.get("/projects?filter=colour:red"))[0] == 400


async def test_concurrent_changes_all_count(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id)
    path = f"/projects/{project['id']}"
    before = (await projects.get("/changes/feed"))[1]["items"]
    answers = await asyncio.gather(
        *(projects.patch(path, {"web_snippet": {"project_javascript": str(n)}}) for n in range(20))
    )
    assert {status for status, _ in answers} == {200}
    after = (await projects.get("/changes/feed"))[1]["items"]
    assert len(after) == len(before) + 20


async def test_concurrent_posts_never_share_an_id(projects: Caller, account_id: int) -> None:
    made = await asyncio.gather(*(make(projects, account_id, name=str(n)) for n in range(20)))
    assert len({project["id"] for project in made}) == 20


async def test_a_restart_keeps_everything(serve: Serve, projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id, created="ignored")
    again = await serve("projects", projects.database_url)
    assert await again.get(f"/projects/{project['id']}") == (200, project)


async def test_at_sets_when_a_project_was_made(projects: Caller, account_id: int) -> None:
    made = await projects.made("/projects?at=2026-01-02T03:04:05Z", {"account_id": account_id, "name": "Old"})
    assert made["created"] == "2026-01-02T03:04:05Z"


async def test_412_for_a_change_of_another_version(projects: Caller, account_id: int) -> None:
    path = f"/projects/{(await make(projects, account_id))['id']}"
    condition = {"If-Match": version_tag((await projects.get(path))[1])}
    assert (await projects.patch(path, {"name": "New"}, headers=condition))[0] == 200
    assert (await projects.patch(path, {"name": "Newer"}, headers=condition))[0] == 412
    assert (await projects.get(path))[1]["name"] == "New"


async def test_200_a_change_of_nothing_stores_nothing(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id)
    for same in ({}, project, {"web_snippet": {"include_jquery": True}}):
        assert await projects.patch(f"/projects/{project['id']}", same) == (200, project)


async def test_existing_projects_get_their_environments_when_the_database_is_migrated(
    serve: Serve, projects: Caller, account_id: int
) -> None:
    made = [await make(projects, account_id, platform=platform) for platform in ("web", "custom")]
    await migrate_to(projects.database_url, "projects", "0001")
    await migrate_to(projects.database_url, "projects", "head")
    again = await serve("projects", projects.database_url)
    new = await make(again, account_id, platform="custom")

    async def environments(project: Any) -> list[Any]:
        return list((await again.get(f"/environments?project_id={project['id']}"))[1]["items"])

    web, custom, created = [await environments(project) for project in (*made, new)]
    assert [environment["key"] for environment in web] == ["production"]
    differing = {"id", "project_id", "created", "last_modified", "datafile"}
    assert [{k: v for k, v in environment.items() if k not in differing} for environment in custom] == [
        {k: v for k, v in environment.items() if k not in differing} for environment in created
    ]
    migrated = [*web, *custom]
    assert [environment["created"] for environment in migrated] == [
        project["created"] for project in (made[0], made[1], made[1])
    ]
    assert all(environment["datafile"].keys() == created[0]["datafile"].keys() for environment in migrated)
    everything = [*migrated, *created]
    ids = [number for item in everything for number in (item["id"], item["datafile"]["id"])]
    assert len({*ids, new["id"]}) == len(ids) + 1
    sdk_keys = {environment["datafile"]["sdk_key"] for environment in everything}
    assert {len(key) for key in sdk_keys} == {22}
    assert len(sdk_keys) == len(everything)


async def test_only_one_of_two_deletions_of_a_webhook_succeeds(projects: Caller, account_id: int) -> None:
    project = await make(projects, account_id)
    owner = {"account_id": account_id, "project_id": project["id"]}
    body = {**owner, "name": "Listener", "url": "https://hooks.example/", "secret": "s" * 32}
    webhook = await projects.made("/webhooks", body)
    path = f"/webhooks/{webhook['id']}"
    deleted = await asyncio.gather(*(projects.delete(path) for _ in range(5)))
    assert sorted(status for status, _ in deleted) == [204, 404, 404, 404, 404]


async def test_a_webhook_is_stored_with_its_secret_and_shown_without(
    projects: Caller, account_id: int
) -> None:
    project = await make(projects, account_id)
    body = {"account_id": account_id, "project_id": project["id"], "name": "x", "url": "https://h.example/"}
    assert "/secret" in (await projects.post("/webhooks", body))[1]["message"]
    webhook = await projects.made("/webhooks", {**body, "secret": "s" * 32})
    await projects.patch(f"/webhooks/{webhook['id']}", {"name": "y", "secret": "t" * 32})
    assert "secret" not in (await projects.get(f"/webhooks/{webhook['id']}"))[1]
    database = Database(projects.database_url)
    async with database.snapshot() as connection:
        documents = (await connection.execute(select(WEBHOOKS.table.c.document))).scalars().all()
    await database.close()
    assert [document["secret"] for document in documents] == ["s" * 32]
