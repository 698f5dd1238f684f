"""`optimizely-api account`, `token` and `webhook`, run as a person runs them, before a real projects service."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import insert

from optimizely_api.gateway.identity import token_sha256
from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.projects.delivery.tables import deliveries
from optimizely_api.services.storage.database import Database
from optimizely_api.services_key import authorization, key_file
from tests.services.conftest import Caller, running
from tests.services.databases import SQLiteDatabases
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

Done = tuple[int, str, str]  # exit status, standard output, standard error
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Run = Callable[..., Awaitable[Done]]


async def command(folder: Path, environment: Mapping[str, str], *arguments: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "optimizely_api.cli", *arguments),
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@pytest_asyncio.fixture
async def database_url(sqlite_databases: SQLiteDatabases, tmp_path: Path) -> str:
    return await sqlite_databases.create("projects", tmp_path)


@pytest_asyncio.fixture
async def service(database_url: str) -> AsyncIterator[Caller]:
    async with serving(database_url) as caller:
        yield caller


def serving(database_url: str) -> AbstractAsyncContextManager[Caller]:
    return running(SERVICES["projects"].create_application(database_url), database_url)


@pytest.fixture
def run(service: Caller, tmp_path: Path) -> Run:
    async def run(*arguments: str, **environment: str) -> Done:
        return await command(
            tmp_path, {"OPTIMIZELY_API_PROJECTS_URL": service.url, **environment}, *arguments
        )

    return run


async def test_a_token_is_printed_once_works_and_ends_when_it_is_revoked(run: Run, service: Caller) -> None:
    status, printed, _ = await run("account", "create", "Shop\n\x1b[31m")
    account = printed.strip()
    assert (status, account.isdigit()) == (0, True)
    status, listed, _ = await run("account", "list")
    assert (status, listed.split()[0], listed.count("\n")) == (0, account, 1)
    assert "Shop??[31m" in listed

    status, printed, said = await run("token", "create", "--account", account, "--name", "ci")
    token = printed.removesuffix("\n")
    assert (status, token[:2], token.count("\n")) == (0, "2:", 0)
    token_id = said.split()[1]
    path = f"/tokens/{token_sha256(token)}"
    assert (await service.get(path))[1]["account_id"] == int(account)

    status, listed, _ = await run("token", "list", "--account", account)
    assert (status, listed.split()[0], listed.split()[2:]) == (0, token_id, ["-", "ci"])
    assert token not in listed
    assert token_sha256(token) not in listed

    assert (await run("token", "revoke", "--account", account, token_id))[0] == 0
    assert (await service.get(path))[0] == 404
    _, listed, _ = await run("token", "list", "--account", account)
    assert listed.split()[2].endswith("Z")
    status, _, said = await run("token", "revoke", "--account", account, token_id)
    assert (status, said.count("\n")) == (1, 1)
    assert f"token {token_id} does not exist" in said


async def test_the_deliveries_of_a_webhook_are_listed_and_its_secret_is_replaced(
    run: Run, service: Caller
) -> None:
    webhook = {
        "account_id": 1,
        "project_id": 2,
        "name": "x",
        "url": "http://127.0.0.1:1/",
        "secret": "s" * 32,
    }
    webhook_id = str((await service.made("/webhooks", webhook))["id"])
    assert await run("webhook", "deliveries", webhook_id) == (0, "", "")
    error = "cannot be reached: \x1b[31mnobody listens"
    await _add_delivery(service, int(webhook_id), next_attempt=NOON, last_error=error)
    await _add_delivery(service, int(webhook_id), state="delivered")
    status, listed, _ = await run("webhook", "deliveries", webhook_id)
    newest, oldest = listed.splitlines()
    assert (status, newest.split()[2:]) == (0, ["project.datafile_updated", "delivered", "1", "-", "-"])
    assert oldest.split()[3:6] == ["pending", "1", "2026-03-01T12:00:00Z"]
    assert oldest.endswith("cannot be reached: ?[31mnobody listens")
    _, listed, _ = await run("webhook", "deliveries", webhook_id, "--limit", "1")
    assert listed.split() == newest.split()

    status, secret, _ = await run("webhook", "secret", webhook_id)
    assert (status, len(secret.strip()) >= 32) == (0, True)
    assert (await run("webhook", "secret", "99"))[0] == 1


async def _add_delivery(service: Caller, webhook_id: int, **members: object) -> None:
    values = {
        "uuid": str(uuid.uuid4()),
        "webhook_id": webhook_id,
        "event": "project.datafile_updated",
        "body": "{}",
        "state": "pending",
        "attempts": 1,
        "created": NOON,
        **members,
    }
    database = Database(service.database_url)
    async with database.transaction() as connection:
        await connection.execute(insert(deliveries).values(**values))
    await database.close()


async def test_what_goes_wrong_is_one_line_and_status_1(run: Run, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    cases = [
        (("token", "list", "--account", "99"), {}, "answered 404: account 99 does not exist"),
        (("account", "create", " "), {}, "answered 400: "),
        (("account", "list"), {"SERVICES_KEY": "another-key-of-theirs"}, "does not take this key"),
        (("account", "list"), {"SERVICES_KEY": "short"}, "is too short"),
        (("account", "list"), {"SERVICES_KEY": ""}, "there is no services' key"),
        (("account", "list", "--url", away), {}, f"{away} cannot be reached"),
        (("account", "list", "--url", "somewhere"), {}, "somewhere"),
    ]
    done = await asyncio.gather(*(run(*arguments, **environment) for arguments, environment, _ in cases))
    for (status, printed, said), (arguments, _, expected) in zip(done, cases, strict=True):
        assert (status, printed, said.count("\n")) == (1, "", 1), (arguments, said)
        assert said.startswith("Error: ")
        assert expected in said
        assert SERVICES_KEY not in said


async def test_the_key_of_make_run_is_found(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICES_KEY", key_file(tmp_path / "var").read_text())
    async with serving(database_url) as service:
        environment = {"SERVICES_KEY": "", "OPTIMIZELY_API_PROJECTS_URL": service.url}
        for unset in ({}, {"SERVICES_KEY_FILE": ""}):
            assert await command(tmp_path, {**environment, **unset}, "account", "list") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["account"], ["create", "list", "SERVICES_KEY"]),
        (["token"], ["create", "list", "revoke", "SERVICES_KEY"]),
        (["token", "create"], ["--account", "--name", "shown only once"]),
        (["token", "revoke"], ["--account", "TOKEN_ID", "identity_cache_seconds"]),
        (["webhook"], ["deliveries", "secret", "SERVICES_KEY"]),
        (["webhook", "deliveries"], ["WEBHOOK_ID", "--limit", "given_up"]),
    ],
    ids=" ".join,
)
async def test_help_says_what_is_needed(arguments: list[str], said: list[str], tmp_path: Path) -> None:
    status, printed, _ = await command(tmp_path, {}, *arguments, "--help")
    assert status == 0
    assert [word for word in said if word not in printed] == []


async def test_a_wrong_command_line_is_status_2(tmp_path: Path) -> None:
    assert (await command(tmp_path, {}, "token", "create"))[0] == 2


async def test_a_list_has_all_pages(service: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    from optimizely_api import administration

    monkeypatch.setattr(administration, "PER_PAGE", 2)
    made = [(await service.made("/accounts", {"name": f"Account {number}"}))["id"] for number in range(5)]
    listed = await asyncio.to_thread(lambda: list(administration._all(service.url, "/accounts")))
    assert [item["id"] for item in listed] == made
    assert service.session.headers["Authorization"] == authorization(SERVICES_KEY)["Authorization"]


async def test_users_have_roles_and_tokens(run: Run, service: Caller) -> None:
    account = (await run("account", "create", "Shop"))[1].strip()
    project = (await service.made("/projects", {"account_id": int(account), "name": "Shop"}))["id"]
    of_account = ("--account", account)
    status, printed, _ = await run(
        "user", "add", *of_account, "ada@shop.example", "--role", f"{project}=editor"
    )
    user_id = printed.strip()
    assert status == 0
    assert (await run("user", "add", *of_account, "root@shop.example", "--administrator"))[0] == 0
    status, listed, _ = await run("user", "list", *of_account)
    rows = {tuple(line.split()) for line in listed.splitlines()}
    assert (user_id, "ada@shop.example", "-", f"{project}=editor") in rows
    assert {row[1:] for row in rows} == {
        ("ada@shop.example", "-", f"{project}=editor"),
        ("root@shop.example", "administrator"),
    }
    token = (await run("token", "create", *of_account, "--user", "ada@shop.example"))[1].strip()
    known = (await service.get(f"/tokens/{token_sha256(token)}"))[1]
    assert (known["user"]["id"], known["user"]["roles"]) == (user_id, {str(project): "editor"})
    assert (await run("user", "role", *of_account, "ada@shop.example", str(project), "none"))[0] == 0
    assert (await service.get(f"/tokens/{token_sha256(token)}"))[1]["user"]["roles"] == {}


async def test_a_wrong_user_or_role_is_one_line(run: Run) -> None:
    account = (await run("account", "create", "Shop"))[1].strip()
    of_account = ("--account", account)
    await run("user", "add", *of_account, "ada@shop.example")
    cases = [
        (("user", "add", *of_account, "ada@shop.example"), 1, "is already in use"),
        (("user", "add", *of_account, "ada"), 1, "/email"),
        (("user", "role", *of_account, "ada@shop.example", "99", "viewer"), 1, "project 99 does not exist"),
        (("user", "role", *of_account, "eve@shop.example", "99", "viewer"), 1, "no user eve@shop.example"),
        (("token", "create", *of_account, "--user", "eve@shop.example"), 1, "no user eve@shop.example"),
        (("user", "add", *of_account, "eve@shop.example", "--role", "editor"), 2, "must be PROJECT=ROLE"),
    ]
    done = await asyncio.gather(*(run(*arguments) for arguments, _, _ in cases))
    for (status, _, said), (arguments, expected, part) in zip(done, cases, strict=True):
        assert (status, part in said) == (expected, True), (arguments, said)
