"""Request bodies: what is read, what is ignored, and what is said about one that does not fit the contract."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import yaml
from webtest import TestApp

from optimizely_api.contract import Contract, load
from optimizely_api.contract.bodies import MAX_VIOLATIONS, BodyValidators
from optimizely_api.gateway.contract.bodies import MAX_VALUES, BodyReader
from optimizely_api.gateway.contract.requests import ContractRequest
from optimizely_api.runtime.testing import GatewayTestApp
from tests.contract.conftest import assert_error, make_router

TIME = "must be a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31"


OPTIONAL_BODY = {"name": "pet", "in": "body", "schema": {"$ref": "#/definitions/Pet"}}


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """A contract with operations that take a body, or none."""
    tmp_path = tmp_path_factory.mktemp("writing")
    (tmp_path / "swagger.yaml").write_text(
        """
        swagger: "2.0"
        info: {title: Tiny, version: "1"}
        basePath: /v2
        consumes: [application/json]
        produces: [application/json]
        paths:
          /pets: {$ref: "pets.yaml#/paths/~1pets"}
        """
    )
    operation = {
        "operationId": "create_pet",
        "tags": ["Pets"],
        "parameters": [
            {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Pet"}},
            {"name": "page", "in": "query", "type": "integer", "minimum": 1},
        ],
        "responses": {
            "201": {"description": "made", "schema": {"$ref": "#/definitions/Pet"}},
            "default": {"description": "failed", "schema": {"$ref": "#/definitions/Error"}},
        },
    }
    pet = {
        "type": "object",
        "required": ["name", "id"],
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "id": {"type": "integer", "readOnly": True},
            "born": {"type": "string", "format": "date-time"},
            "nick": {"type": "string", "x-nullable": True},
            "notes": {"type": "object"},
            "names": {"type": "object", "additionalProperties": {"type": "string"}},
            "code": {"type": "string"},
            "toys": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["size"],
                    "properties": {"size": {"type": "integer"}},
                },
            },
        },
    }
    definitions = {"Pet": pet, "Error": load().document["definitions"]["Error"]}
    changing = {**operation, "operationId": "update_pet", "parameters": [OPTIONAL_BODY]}
    leaving = {**operation, "operationId": "delete_pet", "parameters": []}
    operations = {"post": operation, "patch": changing, "delete": leaving}
    pets = {"paths": {"/pets": operations}, "definitions": definitions}
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump(pets))
    return load(tmp_path)


@pytest.fixture(scope="module")
def parameters() -> dict[str, Any]:
    """What the view of the last request saw."""
    return {}


@pytest.fixture(scope="module")
def app(writing: Contract, parameters: dict[str, Any]) -> Iterator[GatewayTestApp]:
    def remember(request: Any) -> dict[str, Any]:
        parameters.update(request.swagger_data)
        request.response.status_int = 201
        return {"id": 7, "name": "Rex"}

    views = dict.fromkeys(("create_pet", "update_pet", "delete_pet"), remember)
    with GatewayTestApp(make_router(views, writing)) as app:
        yield app


@pytest.fixture
def send(app: GatewayTestApp) -> Callable[..., Any]:
    """Send a body, as JSON unless it is bytes."""

    def send(body: Any, method: str = "POST", content_type: str = "application/json", query: str = "") -> Any:
        return app.request(
            f"/v2/pets{query}",
            method=method,
            body=body if isinstance(body, bytes) else orjson.dumps(body),
            headers={"Content-Type": content_type},
            expect_errors=True,
        )

    return send


@pytest.fixture
def seen(send: Any, parameters: dict[str, Any]) -> Callable[..., Any]:
    """Send a body that must be accepted; returns the operation's parameters as its view sees them."""

    def accepted(*args: Any, **kwargs: Any) -> Any:
        parameters.clear()
        assert send(*args, **kwargs).status_int == 201
        return parameters

    return accepted


@pytest.fixture
def refused(send: Any) -> Callable[..., Any]:
    """Send a body that must be refused; returns the violations by place."""
    return lambda *args, **kwargs: assert_error(send(*args, **kwargs), 400, "bad_request")["messages"]


# ---- accepted


def test_a_body_reaches_the_view_as_it_was_sent(seen: Any) -> None:
    body = {"name": "Rex", "born": "2026-01-31", "toys": [{"size": 1}], "new": [None]}
    assert seen(body) == {"body": body, "page": None}


@pytest.mark.parametrize("value", ["x", None, 7, {"a": []}], ids=str)
def test_read_only_members_are_ignored_whatever_their_value(seen: Any, value: Any) -> None:
    assert seen({"name": "Rex", "id": value})["body"] == {"name": "Rex", "id": value}


def test_null_is_accepted_where_the_contract_has_it(seen: Any) -> None:
    assert seen({"name": "Rex", "nick": None})["body"]["nick"] is None


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        "application/merge-patch+json",
        "application/vnd.a.b+json;v=1",
    ],
)
def test_json_is_read_under_each_of_its_media_types(seen: Any, content_type: str) -> None:
    assert seen({"name": "Rex"}, content_type=content_type)["body"] == {"name": "Rex"}


def test_parameters_beside_a_body_have_their_types(seen: Any) -> None:
    assert seen({"name": "Rex"}, query="?page=2") == {"body": {"name": "Rex"}, "page": 2}
    # One that only pyramid_swagger reads.
    assert seen({"name": "Rex"}, query="?page=" + "0" * 30 + "2") == {"body": {"name": "Rex"}, "page": 2}


@pytest.mark.parametrize("body", [b"", b"null"], ids=["none", "null"])
def test_an_optional_body_may_be_missing(seen: Any, body: bytes) -> None:
    assert seen(body, method="PATCH") == {"pet": None}


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
@pytest.mark.parametrize("body", [b"", b"{}", b"{"], ids=["none", "empty", "no JSON"])
def test_a_body_that_the_operation_does_not_have_is_ignored(
    seen: Any, body: bytes, content_type: str
) -> None:
    assert seen(body, method="DELETE", content_type=content_type) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Rex", "code": ", {[" * 100_000},
        {"name": "Rex", "notes": {str(number): number for number in range(MAX_VALUES - 2)}},
        {"name": "Rex", "toys": [{"size": number} for number in range(MAX_VALUES // 3)]},
    ],
    ids=["long text", "many members", "many objects"],
)
def test_large_bodies_are_read(seen: Any, body: Any) -> None:
    assert seen(body)["body"] == body


@pytest.mark.parametrize(
    ("body", "pauses"),
    [
        ({"name": "Rex"}, 0),
        ({"name": "Rex", "code": "x" * 1_000_000}, 3),
        ({"name": "Rex", "code": '"' * 1_000_000}, 10),
        ({"name": "Rex", "toys": [{"size": n} for n in range(6000)] + [{}]}, 20),
    ],
    ids=["small", "long text", "escapes", "invalid at the end"],
)
def test_others_go_on_while_a_large_body_is_looked_at(writing: Contract, body: Any, pauses: int) -> None:
    counted: list[None] = []
    validator = BodyValidators(writing).by_operation["create_pet"]
    reader = BodyReader("body", True, validator, lambda: counted.append(None))
    reader.read(ContractRequest.blank("/v2/pets", method="POST", body=orjson.dumps(body)))
    assert len(counted) >= pauses
    assert bool(counted) == bool(pauses)


def test_a_blocking_application_reads_bodies_too(writing: Contract) -> None:
    def create_pet(request: Any) -> Any:
        request.response.status_int = 201
        return {"id": 7, "name": request.swagger_data["body"]["name"]}

    app = TestApp(make_router({"create_pet": create_pet}, writing, blocking=True))
    body = {"name": "Rex", "code": "x" * 200_000}
    assert app.post_json("/v2/pets", body, status=201).json == {"id": 7, "name": "Rex"}


# ---- refused


def test_400_lists_every_violation_of_a_body(refused: Any) -> None:
    assert refused({"born": "now", "toys": [{"size": 1}, {"size": "big"}, {}, 7]}) == {
        "/body/born": TIME,
        "/body/name": "is required",
        "/body/toys/1/size": "is not of type 'integer'",
        "/body/toys/2/size": "is required",
        "/body/toys/3": "is not of type 'object'",
    }


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is required"),
        (b"null", "is required"),
        (b" ", "must be JSON"),
        (b"{", "must be JSON"),
        (b'{"name": NaN}', "must be JSON"),
        (b'{"name": "\\ud800"}', "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"\xef\xbb\xbf{}", "must be JSON"),
        (b"[" * 10_000, "must be JSON"),
        (b"[" * 500 + b"]" * 500, "must not be nested more than 254 levels deep"),
        (b"[" * 100_000, f"must have at most {MAX_VALUES} members and entries"),
        (b"[0" + b",0" * MAX_VALUES + b"]", f"must have at most {MAX_VALUES} members and entries"),
        (b'[""' + b',""' * 4 * MAX_VALUES + b"]", f"must have at most {MAX_VALUES} members and entries"),
        (b'{"name": "a", "name": "a"}', "must not have two members of one name in one object"),
        (b'{"name": "a", "n\\u003a": 1, "n:": 2}', "must not have two members of one name in one object"),
        (b'{"name": "a", "new": 9223372036854775808}', "must not have integers beyond 64 bits"),
        (b"[]", "is not of type 'object'"),
    ],
    ids=[
        *("none", "null", "blank", "cut off", "NaN", "lone surrogate", "not utf-8", "byte order mark"),
        *("too deep to read", "too deep", "brackets", "too many", "too many texts"),
        *("name twice", "name twice, escaped", "65 bits", "array"),
    ],
)
def test_400_for_a_body_that_is_none(refused: Any, body: bytes, problem: str) -> None:
    assert refused(body) == {"/body": problem}


def test_400_for_null_where_the_contract_has_none(refused: Any) -> None:
    assert refused({"name": None}) == {"/body/name": "is not of type 'string'"}


def test_400_for_an_optional_body_that_is_not_json(refused: Any) -> None:
    assert refused(b"{", method="PATCH") == {"/body": "must be JSON"}


def test_400_lists_violations_of_parameters_and_body_together(refused: Any) -> None:
    assert refused({}, query="?page=0") == {
        "/query/page": "must be at least 1",
        "/body/name": "is required",
    }


def test_400_names_the_first_violation_of_a_body(send: Any) -> None:
    body = assert_error(send({"name": "too long", "toys": 1}), 400, "bad_request")
    assert body["message"] == "name must have at most 5 characters."


def test_400_lists_so_many_violations_and_no_more(refused: Any) -> None:
    assert len(refused({"name": "Rex", "toys": [{}] * 5000})) == MAX_VIOLATIONS


def test_400_names_every_place_of_u0000(refused: Any) -> None:
    assert refused(
        {"name": "a\0", "notes": {"a": ["\0"]}, "names": {"b": "\0"}, "id": "\0", "new": "\0"}
    ) == {
        "/body/name": "must not hold the character U+0000",
        "/body/notes": "must not hold the character U+0000",
        "/body/names/b": "must not hold the character U+0000",
    }


def test_u0000_is_ignored_where_all_else_is(seen: Any) -> None:
    body = {"name": "Rex", "id": "\0", "new": ["\0"], "code": "\\u0000"}
    assert seen(body)["body"] == body


def test_a_body_is_not_repeated(refused: Any, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter2hunter2"
    assert secret not in str(refused({"name": secret, "toys": [secret]}))
    assert secret not in caplog.text


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/xml",
        "text/json",
        "application/jsonp",
        "nonsense",
    ],
)
def test_415_for_a_body_of_another_media_type(send: Any, content_type: str) -> None:
    response = send({"name": "Rex"}, content_type=content_type)
    assert_error(response, 415, "unsupported_media_type")
    assert response.headers["Accept"] == "application/json"


def test_400_for_a_required_body_that_is_missing_under_any_media_type(refused: Any) -> None:
    assert refused(b"", content_type="text/xml") == {"/body": "is required"}
