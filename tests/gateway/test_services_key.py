"""The services' key: nobody calls a service without it, and what is public is `POST /v1/events` alone."""

import logging
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from optimizely_api.gateway.settings import InvalidSetting, read
from optimizely_api.services.http.server import EVENTS, SERVICES
from optimizely_api.services.storage.database import migrate_async
from optimizely_api.services_key import InvalidServicesKey, authorization, is_authorized, key_file, keys_of
from tests.services.conftest import Caller, running
from tests.support.asserting import assert_error, get
from tests.support.samples import SERVICES_KEY
from tests.support.serving import ROOT, free_port

KEY = "a-key-of-sixteen"
WRONG = [
    {},
    authorization("another-key-of-the-services"),
    authorization(SERVICES_KEY[:-1]),
    authorization(SERVICES_KEY + "x"),
    authorization(""),
    {"Authorization": f"Basic {SERVICES_KEY}"},
    {"Authorization": SERVICES_KEY},
    {"X-Services-Key": SERVICES_KEY},
]


def addresses(application: web.Application) -> list[tuple[str, str]]:
    """(method, path) of each route, with 1 for each parameter."""
    found = []
    for route in application.router.routes():
        assert route.resource is not None
        path = "/".join("1" if part.startswith("{") else part for part in route.resource.canonical.split("/"))
        found.append((route.method, path))
    return found


async def serving(service: Any, folder: Path) -> Any:
    url = f"sqlite:///{folder / service.owner}.sqlite3"
    await migrate_async(url, service.migrations)
    return service.create_application(url), url


@pytest_asyncio.fixture
async def public(tmp_path: Path) -> AsyncIterator[Caller]:
    application, url = await serving(EVENTS, tmp_path)
    async with running(application, url) as caller, aiohttp.ClientSession() as session:
        yield Caller(session, caller.url, url)


@pytest.mark.parametrize("name", SERVICES)
async def test_401_at_every_address_of_a_service_without_the_key(name: str, tmp_path: Path) -> None:
    application, url = await serving(SERVICES[name], tmp_path)
    asked = [*addresses(application), ("GET", "/nowhere"), ("PUT", "/healthz/x"), ("POST", "/healthz/")]
    assert len(asked) > 5
    async with running(application, url) as caller, aiohttp.ClientSession() as session:
        for method, path in asked:
            for headers in WRONG:
                if path == "/healthz" and "Authorization" not in headers:
                    continue
                sent = session.request(method, caller.url + path, headers=headers)
                async with sent as response:
                    assert response.status == 401, (method, path, headers)
                    assert method == "HEAD" or set(await response.json()) == {"code", "message"}
            async with session.request(
                method, caller.url + path, headers=authorization(SERVICES_KEY)
            ) as response:
                assert response.status != 401, (method, path)
        async with session.get(f"{caller.url}/healthz") as response:
            assert response.status == 200


async def test_404_at_the_public_port_for_all_but_events(public: Caller, tmp_path: Path) -> None:
    asked = {("GET", "/"), ("GET", "/healthz"), ("POST", "/v1/events/"), ("POST", "/v2/events")}
    for service in SERVICES.values():
        application, _ = await serving(service, tmp_path)
        asked |= set(addresses(application)) - {("POST", "/v1/events")}
    for method, path in asked:
        for headers in ({}, authorization(SERVICES_KEY)):
            async with public.session.request(method, public.url + path, headers=headers) as response:
                assert response.status == 404, (method, path)
                assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert (await public.get("/v1/events"))[0] == 405


async def test_the_public_port_takes_events_of_every_page_without_a_key(public: Caller) -> None:
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    async with public.session.options(f"{public.url}/v1/events", headers=preflight) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"Content-Encoding", "Content-Type"} <= set(allowed)
    batch = {"account_id": "1", "project_id": "2", "visitors": []}
    assert (await public.post("/v1/events", batch))[0] == 204
    assert (await public.post("/v1/events", []))[0] == 400


async def test_two_keys_are_taken_while_the_key_is_changed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SERVICES_KEY", f"{KEY}-new {KEY}-old")
    application, url = await serving(SERVICES["projects"], tmp_path)
    async with running(application, url) as caller:
        for key, status in ((f"{KEY}-new", 200), (f"{KEY}-old", 200), (KEY, 401)):
            assert (await caller.get("/accounts", headers=authorization(key)))[0] == status


def test_the_key_is_compared_as_a_whole() -> None:
    assert is_authorized(f"bearer  {KEY} ", [KEY])
    for header in (None, "", "Bearer", "Bearer ", f"Bearer {KEY}é", f"Bearer {KEY}\udcff", f"Bearer{KEY}"):
        assert not is_authorized(header, [KEY])


# Where the key comes from


def test_the_environment_wins_over_the_ini_and_a_key_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}-of-the-file\n")
    ini = {"services_key": f"{KEY}-of-the-ini"}
    environ = {"SERVICES_KEY": f"{KEY}-shared"}
    own = {"OPTIMIZELY_API_SERVICES_KEY": f"{KEY}-own"}
    assert read(ini, {}).services_key == f"{KEY}-of-the-ini"
    assert read({"services_key_file": str(file)}, {}).services_key == f"{KEY}-of-the-file"
    assert read(ini, {"SERVICES_KEY_FILE": str(file)}).services_key == f"{KEY}-of-the-file"
    assert read(ini, {"SERVICES_KEY_FILE": str(file), **environ}).services_key == f"{KEY}-shared"
    assert read(ini, {**environ, **own}).services_key == f"{KEY}-own"


@pytest.mark.parametrize(
    "text", ["short", "fifteen-chars-x", f"{KEY} short", f"{KEY}é"], ids=["5", "15", "second", "not ASCII"]
)
def test_a_key_that_cannot_be_used_is_refused_without_showing_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    for given in ((text, ""), ("", str(tmp_path / "key"))):
        with pytest.raises(InvalidServicesKey, match="set SERVICES_KEY") as refused:
            keys_of(*given)
        assert text.split()[-1] not in str(refused.value).split()


@pytest.mark.parametrize("file", ["", "/nowhere/key"])
def test_no_gateway_without_a_key(file: str) -> None:
    with pytest.raises(InvalidSetting, match="set SERVICES_KEY, or SERVICES_KEY_FILE"):
        read({"services_key_file": file}, {})


def test_the_key_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(InvalidSetting, match="no such setting; did you mean services_key") as refused:
        read({"service_key": KEY}, {})
    assert KEY not in str(refused.value)
    assert KEY not in repr(read({"services_key": KEY}, {}))


@pytest.mark.parametrize("command", [["service", "projects"], ["service", "results"]])
def test_a_service_without_a_key_says_how_to_set_it_in_its_last_line(
    command: list[str], tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SERVICES_KEY")}
    done = subprocess.run(
        [sys.executable, "-m", "optimizely_api.cli", *command, "--port", str(free_port())],
        env={**environment, "OPTIMIZELY_API_DATA_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "set SERVICES_KEY" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_new_key_is_for_its_owner_alone_and_is_kept(tmp_path: Path) -> None:
    file = key_file(tmp_path / "var")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = keys_of("", str(file))
    assert len(key) >= 32
    assert key_file(tmp_path / "var").read_text().strip() == key


# The gateway


def test_502_and_a_line_in_the_log_when_the_keys_differ(gateway: Any, services: Any, caplog: Any) -> None:
    services.key = "the-key-has-been-changed"
    with caplog.at_level(logging.WARNING):
        assert_error(get(gateway, "/v2/projects", status=502), 502, "bad_upstream_answer")
    assert "its key (SERVICES_KEY) is not the gateway's" in caplog.text
    assert SERVICES_KEY not in caplog.text
    assert set(gateway.get("/readyz", status=503).json["messages"]) == {
        "/projects",
        "/experiments",
        "/results",
    }


def test_every_call_carries_the_key(gateway: Any, services: Any) -> None:
    get(gateway, "/v2/projects")
    gateway.post("/v1/events", "{}", status=204)
    assert [seen.headers["Authorization"] for seen in services.seen] == [f"Bearer {SERVICES_KEY}"] * 4
