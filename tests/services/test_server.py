"""A service as a process of its own: gunicorn, aiohttp's worker, a database file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp.worker import GunicornWebWorker
from sqlalchemy import text
from yarl import URL

from optimizely_api.services.http.limits import Limits
from optimizely_api.services.http.server import EVENTS, SERVICES, run_service
from optimizely_api.services.http.worker import worker_class
from optimizely_api.services.storage.database import Database
from optimizely_api.services_key import authorization
from tests.services.conftest import Caller, session_with_key
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

ROOT = Path(__file__).parents[2]
SILENCE_SECONDS = 2.0  # a service that reads nothing for so long waits for its client


@contextlib.asynccontextmanager
async def service_process(
    name: str, database_url: str, folder: Path, workers: int = 1, graceful_seconds: int = 30
) -> AsyncIterator[tuple[Caller, asyncio.subprocess.Process]]:
    """`run_service` in a process of its own, in a strange folder, ready to answer."""
    port = free_port()
    arguments = f"{name!r}, port={port}, workers={workers}, database_url={database_url!r}"
    program = (
        "from optimizely_api.services.http import server;"
        f" server.GRACEFUL_TIMEOUT_SECONDS = {graceful_seconds}; server.run_service({arguments})"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with session_with_key() as session:
            caller = Caller(session, f"http://127.0.0.1:{port}", database_url)
            await _until_healthy(caller, process)
            yield caller, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def reload(process: asyncio.subprocess.Process) -> str:
    """Send HUP, and read the log until the reload is over, done or not."""
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if "Not reloaded" in line or "Worker exiting" in line:
                return line
    raise AssertionError("the service has ended")


async def _until_healthy(caller: Caller, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, (await process.communicate())[0].decode()
            try:
                assert (await caller.get("/healthz"))[0] == 200
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_service_migrates_serves_and_logs_from_any_folder(database_url: str, tmp_path: Path) -> None:
    async with service_process("projects", database_url, tmp_path) as (caller, process):
        made = await caller.made("/accounts", {"name": "Kept"}, headers={"X-Request-Id": "abc-3"})
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    lines = [json.loads(line) for line in output.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "abc-3"]
    assert (line["route"], line["status"]) == ("/accounts", 201)
    assert process.returncode == 0
    async with service_process("projects", database_url, tmp_path) as (caller, _):
        assert await caller.get(f"/accounts/{made['id']}") == (200, made)


async def test_term_finishes_the_request_in_flight_and_its_connection(
    database_url: str, tmp_path: Path
) -> None:
    async with service_process("projects", database_url, tmp_path) as (caller, process):
        host, port = caller.url.removeprefix("http://").split(":")
        database = Database(database_url)
        async with database.transaction() as connection:
            if not database.is_sqlite:
                await connection.execute(text("LOCK TABLE accounts"))
            # The request is in flight for as long as this transaction has the lock that it needs.
            request = asyncio.create_task(_create_account(caller))
            await _until_stuck(database, caller)
            process.send_signal(signal.SIGTERM)
            await _until_refused(host, int(port))
            assert not request.done()
        await database.close()
        assert await request == (201, "close")
        await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == 0


async def test_a_client_that_takes_nothing_of_its_responses_holds_a_stop_for_the_graceful_timeout(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'p.sqlite3'}"
    async with service_process("projects", url, tmp_path, graceful_seconds=4) as (caller, process):
        output = asyncio.create_task(process.communicate())
        with socket.socket() as client:
            await asyncio.to_thread(_send_until_nobody_reads, client, URL(caller.url).port or 0)
            process.send_signal(signal.SIGTERM)
            lines, _ = await asyncio.wait_for(output, 30)
    messages = [json.loads(line)["message"] for line in lines.splitlines()]
    assert "Cancelling 1 connections still open at the end of graceful_timeout" in messages
    # The worker has ended by itself, and closed its database: a worker that is killed has no such line.
    assert any(message.startswith("Worker exiting") for message in messages)


def _send_until_nobody_reads(client: socket.socket, port: int) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(SILENCE_SECONDS)
    client.connect(("127.0.0.1", port))
    fields = "".join(f"{name}: {value}\r\n" for name, value in authorization(SERVICES_KEY).items())
    request = f"GET /{'x' * 7_000} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()
    with contextlib.suppress(TimeoutError):
        while True:
            client.sendall(request)


async def test_a_stop_needs_a_small_part_of_the_work_of_a_start(tmp_path: Path) -> None:
    def ended() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before, url = ended(), f"sqlite:///{tmp_path / 'e.sqlite3'}"
    async with service_process("experiments", url, tmp_path) as (_, process):
        master = psutil.Process(process.pid)
        times = [each.cpu_times() for each in (master, *master.children())]
        start = sum(each.user + each.system for each in times)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
    assert ended() - before - start < start / 4


async def _create_account(caller: Caller) -> tuple[int, str | None]:
    async with caller.session.post(f"{caller.url}/accounts", json={"name": "Late"}) as response:
        return response.status, response.headers.get("Connection")


async def _until_stuck(database: Database, caller: Caller) -> None:
    """Until the server has read the request: on PostgreSQL it then waits for the lock."""
    if database.is_sqlite:
        # Requests on later connections are read later: after their answers, the earlier one is in work.
        for _ in range(5):
            async with (
                session_with_key() as session,
                session.get(f"{caller.url}/accounts/1") as response,
            ):
                assert response.status == 404
        return
    async with asyncio.timeout(10):
        waiting = 0
        while not waiting:
            async with database.snapshot() as connection:
                query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'accounts'::regclass"
                waiting = (await connection.execute(text(query))).scalar_one()


async def _until_refused(host: str, port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)


def test_every_service_has_its_own_port() -> None:
    assert {service.name: service.port for service in (*SERVICES.values(), EVENTS)} == {
        "projects": 6551,
        "experiments": 6552,
        "results": 6553,
        "events": 6554,
    }


def test_aiohttps_own_worker_serves() -> None:
    assert issubclass(worker_class(Limits()), GunicornWebWorker)


def test_an_unknown_service_and_an_unusable_database_stop_the_start() -> None:
    with pytest.raises(KeyError):
        run_service("weather")
    with pytest.raises(ValueError, match="mysql"):
        run_service("projects", database_url="mysql://h/n")


async def test_the_key_is_changed_while_the_service_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, wrong = SERVICES_KEY, "the-new-key-of-all", "too-short"
    file = tmp_path / "key"
    file.write_text(old)
    monkeypatch.delenv("SERVICES_KEY")
    monkeypatch.setenv("SERVICES_KEY_FILE", str(file))
    async with service_process("projects", f"sqlite:///{tmp_path / 'p.sqlite3'}", tmp_path) as (
        caller,
        process,
    ):

        async def taken() -> list[str]:
            return [
                key
                for key in (old, new)
                if (await caller.get("/accounts", headers=authorization(key)))[0] == 200
            ]

        assert await taken() == [old]
        for keys, expected in ((f"{old}\n{new}\n", [old, new]), (f"{new}\n", [new])):
            file.write_text(keys)
            assert "Not reloaded" not in await reload(process)
            assert await taken() == expected
        file.write_text(wrong)
        refused = await reload(process)
        assert "Not reloaded, the workers go on as they are: the services' key in" in refused
        assert wrong not in refused
        assert await taken() == [new]
