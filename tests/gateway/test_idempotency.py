"""`Idempotency-Key`: a POST that is sent again makes nothing more, and has the first answer."""

import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import OTHER
from tests.support.real_services import RealServices

ATTRIBUTES = "/v2/attributes"
POSTS = [operation for operation in load().operations.values() if operation.method == "POST"]
AT_ONCE = 20


@pytest.fixture(scope="module")
def another_app(real_stack: RealServices) -> Iterator[GatewayTestApp]:
    """A second gateway in front of the same services."""
    with GatewayTestApp(main({}, **real_stack.settings())) as app:
        yield app


def new_key() -> str:
    return str(uuid.uuid4())


def attribute(ids: Any, **members: Any) -> dict[str, Any]:
    return {"project_id": ids["project_id"], "key": f"a{uuid.uuid4().hex}", "name": "Plan", **members}


def post(app: Any, body: Any, key: str, path: str = ATTRIBUTES, headers: Any = AUTHORIZED) -> Any:
    return app.post_json(path, body, headers={**headers, "Idempotency-Key": key}, expect_errors=True)


def named(real_stack: RealServices, table: str, name: str) -> int:
    ((count,),) = real_stack.rows("experiments", f"SELECT count(*) FROM {table} WHERE name = ?", name)
    return int(count)


def test_201_the_first_answer_again_byte_for_byte(real_app: Any, ids: Any) -> None:
    body, key = attribute(ids), new_key()
    first = post(real_app, body, key)
    changed = real_app.patch_json(f"{ATTRIBUTES}/{first.json['id']}", {"name": "Other"}, headers=AUTHORIZED)
    again = post(real_app, body, key)
    assert (first.status_int, again.status_int) == (201, 201)
    assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
    assert changed.json != again.json


def test_an_error_is_the_first_answer_too(real_app: Any, ids: Any) -> None:
    body, key = attribute(ids, project_id=99), new_key()
    first, again = post(real_app, body, key), post(real_app, body, key)
    assert_error(first, 400, "bad_request")
    assert (again.status_int, again.body) == (400, first.body)


def test_twenty_requests_at_once_over_two_gateways_make_one_entity(
    real_app: Any, another_app: Any, real_stack: RealServices, ids: Any
) -> None:
    name = new_key()  # free: nothing but the key stands in the way of a second one
    key = new_key()
    body = {"project_id": ids["project_id"], "name": name, "edit_url": "https://shop.example/"}
    apps = [real_app, another_app] * (AT_ONCE // 2)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda app: post(app, body, key, "/v2/pages"), apps))
    assert named(real_stack, "pages", name) == 1
    made = {answer.body for answer in answers if answer.status_int == 201}
    for answer in answers:
        if answer.status_int != 201:
            assert_error(answer, 409, "conflict", "being answered")
            assert 1 <= int(answer.headers["Retry-After"]) <= 15
    assert made == {post(another_app, body, key, "/v2/pages").body}


def test_the_answer_outlasts_the_gateway(real_stack: RealServices, ids: Any) -> None:
    body, key = attribute(ids), new_key()
    answers = []
    for _ in range(2):
        with GatewayTestApp(main({}, **real_stack.settings())) as app:
            answers.append(post(app, body, key).body)
    assert answers[0] == answers[1]


def test_one_entity_also_when_a_gateway_ends_before_it_has_kept_its_answer(
    real_app: Any, real_stack: RealServices, ids: Any
) -> None:
    name, key = new_key(), new_key()
    body = {"project_id": ids["project_id"], "name": name, "edit_url": "https://shop.example/"}
    first = post(real_app, body, key, "/v2/pages")
    with sqlite3.connect(real_stack.folder / "projects.sqlite3") as database:  # as if it had never come
        forgotten = "SET status = NULL, body = NULL, leased_until = created WHERE body = ?"
        assert database.execute(f"UPDATE idempotency_keys {forgotten}", [first.body]).rowcount == 1
    again = post(real_app, body, key, "/v2/pages")
    assert (again.status_int, again.json) == (201, first.json)
    assert named(real_stack, "pages", name) == 1


def test_409_for_the_key_with_another_body_or_address(real_app: Any, ids: Any) -> None:
    body, key = attribute(ids), new_key()
    post(real_app, body, key)
    for other, path in ((attribute(ids), ATTRIBUTES), (body, "/v2/audiences"), (body, f"{ATTRIBUTES}?a=1")):
        assert_error(post(real_app, other, key, path), 409, "conflict", "another address or body")


def test_the_key_of_another_token_is_another_key(real_app: Any, ids: Any) -> None:
    key = new_key()
    first = post(real_app, {"name": "Shop"}, key, "/v2/projects")
    other = post(real_app, {"name": "Other shop"}, key, "/v2/projects", OTHER)
    assert (first.status_int, other.status_int) == (201, 201)


def test_after_a_failure_the_same_key_makes_it(real_stack: RealServices, ids: Any) -> None:
    away = {**real_stack.settings(), "experiments_url": "http://127.0.0.1:9"}
    body, key = attribute(ids), new_key()
    with GatewayTestApp(main({}, **away)) as app:
        assert_error(post(app, body, key), 503, "upstream_unavailable")
    with GatewayTestApp(main({}, **real_stack.settings())) as app:
        assert post(app, body, key).status_int == 201


@pytest.mark.parametrize(
    "key", ["", "two words", "\u00e9", "k" * 256], ids=["empty", "space", "letter", "long"]
)
def test_400_for_a_key_that_is_none(real_app: Any, ids: Any, key: str) -> None:
    refused = post(real_app, attribute(ids), key)
    problem = "must be 1 to 255 visible ASCII characters, without spaces"
    assert assert_error(refused, 400, "bad_request")["messages"] == {"/header/Idempotency-Key": problem}


def test_a_request_that_breaks_the_contract_uses_up_no_key(real_app: Any, ids: Any) -> None:
    key = new_key()
    assert_error(post(real_app, {"name": 5}, key), 400, "bad_request")
    assert post(real_app, attribute(ids), key).status_int == 201


def test_reading_has_no_keys(real_app: Any, real_stack: RealServices, ids: Any) -> None:
    before = real_stack.rows("projects", "SELECT count(*) FROM idempotency_keys")
    path = f"{ATTRIBUTES}?project_id={ids['project_id']}"
    assert real_app.get(path, headers={**AUTHORIZED, "Idempotency-Key": "two words"}).status_int == 200
    assert real_stack.rows("projects", "SELECT count(*) FROM idempotency_keys") == before


@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.operation_id)
def test_every_post_declares_the_key_and_its_409(operation: Any) -> None:
    assert "409" in operation.spec["responses"]
    (declared,) = (item for item in operation.spec["parameters"] if item["in"] == "header")
    assert (declared["name"], declared.get("required", False)) == ("Idempotency-Key", False)
