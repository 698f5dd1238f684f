"""What all services share over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from yarl import URL

from optimizely_api.contract.times import format_time
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.json_body import parse_json
from optimizely_api.services.http.query import parse_time, path_id, read_at, read_boolean, read_page
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.storage.database import database_url as read_url
from optimizely_api.serving.log import JSONLines
from tests.services.conftest import Caller, own_postgresql_database, running
from tests.services.databases import POSTGRESQL_URL

BROKEN = [
    pytest.param(b"", "not JSON", id="empty"),
    pytest.param(b"{", "not JSON", id="cut"),
    pytest.param(b"NaN", "not JSON", id="NaN"),
    pytest.param(b"[-Infinity]", "not JSON", id="Infinity"),
    pytest.param(b"1e999", "not JSON", id="too large for a double"),
    pytest.param(b'"\\ud800"', "not JSON", id="lone surrogate"),
    pytest.param(b'"\xff"', "not JSON", id="not UTF-8"),
    pytest.param(b"[" * 2000 + b"]" * 2000, "not JSON", id="nested 2000 times"),
    pytest.param(b'{"a":{"b":1,"b":2}}', "'b' appears twice", id="duplicate name"),
    pytest.param(b"[9223372036854775808]", "out of range", id="beyond 64 bits"),
    pytest.param(b"[" + b"9" * 10_000 + b"]", "", id="ten thousand digits"),
    pytest.param(b'["a\\u0000"]', "U+0000", id="NUL"),
    pytest.param(b'{"a":1,"b":2,"c":3,"d":4}', "more than 3", id="too many members"),
]


@pytest.mark.parametrize(("body", "message"), BROKEN)
def test_400_for_a_body_that_is_not_strict_json(body: bytes, message: str) -> None:
    with pytest.raises(ServiceError, match=None) as caught:
        parse_json(body, max_members=3)
    assert caught.value.status == 400
    assert message in caught.value.message


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert parse_json(rb'"\\u0000"') == r"\u0000"


def test_valid_json_is_read_as_pythons_own_parser_reads_it() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(300):
        value = _random_value(chance, depth=4)
        assert parse_json(json.dumps(value).encode()) == value, f"seed {seed}"


def _random_value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(7 if depth else 5)
    if kind == 0:
        return chance.randrange(-(2**63), 2**63)
    if kind == 1:
        return chance.uniform(-1e9, 1e9)
    if kind == 2:
        return chance.choice([None, True, False])
    if kind in {3, 4}:
        return "".join(chance.choices('aé😀"\\\n ', k=chance.randrange(6)))
    if kind == 5:
        return [_random_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {str(key): _random_value(chance, depth - 1) for key in range(chance.randrange(4))}


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC), "2026-01-31T12:00:00.005000Z"),
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T12:00:00Z"),
    ],
)
def test_times_are_written_in_utc(moment: datetime, text: str) -> None:
    assert format_time(moment) == text
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-02-30T00:00:00Z", "2026-01", 7, None, "0001-01-01T00:00+12:00"]
)
def test_400_names_the_field_that_holds_no_time(text: object) -> None:
    with pytest.raises(ServiceError, match="start_time must be an ISO 8601 time"):
        parse_time(text, "start_time")


async def _echo(request: web.Request) -> web.Response:
    return JSONResponse({"echo": parse_json(await request.read())})


async def _page(request: web.Request) -> web.Response:
    page = read_page(request)
    return JSONResponse({"page": page.number, "per_page": page.size, "offset": page.offset})


async def _flag(request: web.Request) -> web.Response:
    return JSONResponse(read_boolean(request, "flag"))


async def _at(request: web.Request) -> web.Response:
    return JSONResponse(format_time(read_at(request)))


async def _id(request: web.Request) -> web.Response:
    return JSONResponse(path_id(request, "thing_id"))


async def _bug(request: web.Request) -> web.Response:
    raise RuntimeError("a secret detail")


async def _broken_sql(request: web.Request) -> web.Response:
    async with request.app[DATABASE].transaction() as connection:
        await connection.execute(text("SELECT * FROM no_such_table"))
    raise AssertionError("unreachable")


async def _write(request: web.Request) -> web.Response:
    async with request.app[DATABASE].transaction() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS written (n INTEGER)"))
        await connection.execute(text("INSERT INTO written VALUES (1)"))
    return JSONResponse("written")


async def _write_slowly(request: web.Request) -> web.Response:
    async with request.app[DATABASE].transaction() as connection:
        await connection.execute(text("SELECT pg_sleep(30)"))
    raise AssertionError("unreachable")


async def _duplicate(request: web.Request) -> web.Response:
    return await _insert_twice(request, "1")


async def _missing(request: web.Request) -> web.Response:
    return await _insert_twice(request, "NULL")


async def _insert_twice(request: web.Request, value: str) -> web.Response:
    async with request.app[DATABASE].transaction() as connection:
        await connection.execute(text("CREATE TABLE one (n INTEGER NOT NULL UNIQUE)"))
        for _ in range(2):
            await connection.execute(text(f"INSERT INTO one VALUES ({value})"))
    raise AssertionError("unreachable")


ROUTES = [
    web.get("/duplicate", _duplicate),
    web.get("/missing", _missing),
    web.post("/echo", _echo),
    web.get("/page", _page),
    web.get("/flag", _flag),
    web.get("/at", _at),
    web.get("/things/{thing_id}", _id),
    web.get("/bug", _bug),
    web.get("/sql", _broken_sql),
    web.get("/write", _write),
    web.get("/write-slowly", _write_slowly),
]


@pytest.fixture
async def service(database_url: str) -> Any:
    application = make_application("sample", database_url=database_url, routes=ROUTES, max_body_bytes=1000)
    async with running(application) as caller:
        yield caller


async def test_healthz_asks_the_database(service: Caller) -> None:
    assert (await service.get("/write"))[0] == 200
    assert await service.get("/healthz") == (200, {"status": "ok"})


async def test_503_from_healthz_when_the_database_is_away(tmp_path: Any) -> None:
    file = tmp_path / "not-a-database"
    file.write_bytes(b"these bytes are no SQLite file" * 100)
    for url in (f"sqlite:///{file}", "postgresql://nobody@127.0.0.1:1/none"):
        async with running(make_application("sample", database_url=url, routes=ROUTES)) as service:
            status, body = await service.get("/healthz")
            assert (status, body["code"]) == (503, "unavailable")


# When the database is away: 503 with Retry-After, and the service works again when the database does.


async def unavailable(service: Caller, path: str = "/write") -> None:
    async with service.session.get(service.url + path) as response:
        assert (response.status, response.headers.get("Retry-After")) == (503, "1"), await response.text()
        assert await response.json() == {"code": "unavailable", "message": "the database does not answer"}


@pytest.fixture
async def on_postgresql() -> Any:
    """A service, the name of its PostgreSQL database, and a function that runs a statement as administrator."""
    async with own_postgresql_database() as url:
        name = make_url(url).database
        engine = create_async_engine(read_url(POSTGRESQL_URL), isolation_level="AUTOCOMMIT")

        async def administer(statement: str) -> list[Any]:
            async with engine.connect() as connection:
                result = await connection.execute(text(statement.format(name=name)))
                return list(result.scalars().all()) if result.returns_rows else []

        async with running(make_application("sample", database_url=url, routes=ROUTES)) as caller:
            yield caller, administer
        await engine.dispose()


TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"


async def test_503_when_postgresql_ends_the_connection_under_way(on_postgresql: Any) -> None:
    service, administer = on_postgresql
    asked = asyncio.create_task(unavailable(service, "/write-slowly"))
    while not await administer(f"{TERMINATE} AND query LIKE '%pg_sleep(30)%'"):
        await asyncio.sleep(0.02)
    await asked
    assert await service.get("/write") == (200, "written")


async def test_503_while_postgresql_is_read_only_as_after_a_failover(on_postgresql: Any) -> None:
    service, administer = on_postgresql
    await administer("ALTER DATABASE {name} SET default_transaction_read_only = on")
    await unavailable(service)
    await administer("ALTER DATABASE {name} RESET default_transaction_read_only")
    await administer(TERMINATE)
    assert await service.get("/write") == (200, "written")


async def test_503_while_postgresql_accepts_no_connections(on_postgresql: Any) -> None:
    service, administer = on_postgresql
    await administer("ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await administer(TERMINATE)
    await unavailable(service)
    await administer("ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert await service.get("/write") == (200, "written")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
async def test_503_while_postgresql_cannot_be_reached(host: str) -> None:
    url = f"postgresql://nobody@{host}/none"
    async with running(make_application("sample", database_url=url, routes=ROUTES)) as service:
        await unavailable(service)


async def test_503_for_a_damaged_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "damaged.sqlite3"
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 8176)
    async with running(
        make_application("sample", database_url=f"sqlite:///{file}", routes=ROUTES)
    ) as service:
        await unavailable(service)


async def test_404_and_405_are_json(service: Caller) -> None:
    assert await service.get("/nothing") == (404, {"code": "not_found", "message": "nothing at /nothing"})
    async with service.session.get(f"{service.url}/echo") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await response.json())["code"] == "method_not_allowed"


async def test_413_for_a_body_over_the_limit(service: Caller) -> None:
    status, body = await service.post("/echo", data=b'"' + b"x" * 2000 + b'"')
    assert (status, body) == (
        413,
        {"code": "body_too_large", "message": "the body is longer than 1000 bytes"},
    )


async def test_400_for_a_body_that_cannot_be_unpacked(service: Caller) -> None:
    headers = {"Content-Encoding": "gzip"}
    async with service.session.post(f"{service.url}/echo", data=b"no gzip", headers=headers) as response:
        assert response.status == 400
        assert await response.json() == {"code": "bad_request", "message": "the body cannot be decoded"}


async def test_500_hides_the_bug_and_logs_it(service: Caller, caplog: pytest.LogCaptureFixture) -> None:
    status, body = await service.get("/bug", headers={"X-Request-Id": "abc-1"})
    assert (status, body["code"]) == (500, "internal_error")
    assert "secret" not in body["message"]
    assert "request abc-1 failed" in caplog.text
    assert "a secret detail" in caplog.text


async def test_a_wrong_statement_is_a_500_and_the_service_goes_on(service: Caller) -> None:
    assert (await service.get("/sql"))[0] == 500
    assert (await service.get("/healthz"))[0] == 200


async def test_only_a_duplicate_is_a_409_and_a_missing_value_a_500(service: Caller) -> None:
    assert (await service.get("/duplicate"))[0] == 409
    assert (await service.get("/missing"))[0] == 500


async def test_a_body_is_read_whatever_its_content_type(service: Caller) -> None:
    status, body = await service.post("/echo", data=b'{"a": 1}', headers={"Content-Type": "text/plain"})
    assert (status, body) == (200, {"echo": {"a": 1}})


async def test_every_request_writes_one_json_line(service: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "optimizely_api.services.access")
    await service.get("/things/7?x=1", headers={"X-Request-Id": "abc-2"})
    await service.get("/nothing")
    first, second = (json.loads(JSONLines().format(record)) for record in caplog.records)
    assert first["request_id"] == "abc-2"
    assert (first["service"], first["method"], first["status"]) == ("sample", "GET", 200)
    assert (first["path"], first["route"]) == ("/things/7", "/things/{thing_id}")
    assert first["duration_ms"] > 0
    assert (second["route"], second["status"]) == (None, 404)


@pytest.mark.parametrize("given", ["", "x" * 200, "bad id", "\u00e9"])
async def test_a_request_id_that_cannot_be_logged_is_replaced(service: Caller, given: str) -> None:
    async with service.session.get(f"{service.url}/healthz", headers={"X-Request-Id": given}) as response:
        assert response.headers["X-Request-Id"] not in {"", given}


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ("", 200, {"page": 1, "per_page": 25, "offset": 0}),
        ("?page=3&per_page=10", 200, {"page": 3, "per_page": 10, "offset": 20}),
        ("?page=&per_page=", 200, {"page": 1, "per_page": 25, "offset": 0}),
        ("?page=2;per_page=3", 400, "page must be"),  # only `&` separates
        ("?page=2&x=1;per_page=3", 200, {"page": 2, "per_page": 25, "offset": 25}),
        ("?page=0", 400, "page must be a whole number from 1 to"),
        ("?page=-1", 400, "page must be"),
        ("?page=1.5", 400, "page must be"),
        ("?page=\u0661", 400, "page must be"),
        ("?per_page=1001", 400, "per_page must be a whole number from 1 to 1000"),
        ("?page=99999999999999999999999", 400, "page must be"),
    ],
)
async def test_pages(service: Caller, query: str, status: int, body: Any) -> None:
    answer = await service.get(f"/page{query}")
    assert answer[0] == status
    assert answer[1] == body if status == 200 else body in answer[1]["message"]


@pytest.mark.parametrize(("query", "value"), [("True", True), ("1", True), ("FALSE", False), ("", None)])
async def test_truth_values_are_read_in_any_case(service: Caller, query: str, value: bool | None) -> None:
    assert await service.get(f"/flag?flag={query}") == (200, value)
    assert (await service.get("/flag?flag=maybe"))[0] == 400


@pytest.mark.parametrize("thing_id", ["0", "-1", "1.0", "x", "9007199254740992", "1" * 40, "%F0%9F%98%80"])
async def test_404_for_an_id_that_cannot_exist(service: Caller, thing_id: str) -> None:
    assert (await service.get(f"/things/{thing_id}"))[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/things%2F7",
        "/things/7%2Fx",
        "/things/7;x=1",
        "/things/7%0A",
        "/things//7",
        "/things/7/",
        "/%74hings/7/..",
    ],
)
async def test_an_encoded_character_is_part_of_its_segment(service: Caller, path: str) -> None:
    async with service.session.get(URL(f"{service.url}{path}", encoded=True)) as response:
        assert response.status == 404


async def test_at_sets_the_clock_back_but_never_forward(service: Caller) -> None:
    assert await service.get("/at?at=2026-01-01T00:00:00Z") == (200, "2026-01-01T00:00:00Z")
    status, body = await service.get("/at?at=2999-01-01T00:00:00Z")
    assert (status, body["message"]) == (400, "at must not lie in the future")
