"""The contract as a document: complete for its readers, and open to them."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from optimizely_api.contract import load
from optimizely_api.contract.validators import Definitions, ResponseValidator
from optimizely_api.gateway.errors import CODES
from tests.contract.conftest import assert_error

DOCUMENT = load().document
DEFINITIONS = DOCUMENT["definitions"]


def schemas() -> Iterator[tuple[str, Any]]:
    """Every schema of every definition, by its place."""
    todo = [(name, body) for name, body in DEFINITIONS.items()]
    while todo:
        place, schema = todo.pop()
        if "$ref" in schema:
            continue
        yield place, schema
        todo += [(f"{place}.{name}", body) for name, body in schema.get("properties", {}).items()]
        todo += [(f"{place}[]", schema["items"])] if "items" in schema else []
        if isinstance(schema.get("additionalProperties"), dict):
            todo.append((f"{place}.*", schema["additionalProperties"]))


SCHEMAS = dict(schemas())
PROPERTIES = [place for place in SCHEMAS if not place.endswith(("[]", ".*"))]
COMPILED = Definitions(DEFINITIONS)


@pytest.mark.parametrize("place", PROPERTIES)
def test_every_definition_and_property_is_described(place: str) -> None:
    assert SCHEMAS[place]["description"].endswith((".", ":", "`"))


@pytest.mark.parametrize("place", [place for place in SCHEMAS if "example" in SCHEMAS[place]])
def test_every_example_fits_its_schema(place: str) -> None:
    assert ResponseValidator(SCHEMAS[place], COMPILED).check(SCHEMAS[place]["example"]) is None


@pytest.mark.parametrize(
    "name", [name for name in DOCUMENT["responses"] if "schema" in DOCUMENT["responses"][name]]
)
def test_every_error_response_has_an_example_of_its_own(name: str) -> None:
    response = DOCUMENT["responses"][name]
    example = response["examples"]["application/json"]
    assert ResponseValidator(response["schema"], COMPILED).check(example) is None
    assert example["code"] in CODES


@pytest.mark.parametrize(
    "place", [p for p in PROPERTIES if SCHEMAS[p].get("type") not in ("object", "array")]
)
def test_every_plain_property_has_an_example(place: str) -> None:
    assert "example" in SCHEMAS[place] or place == "EventCategories.name"


@pytest.mark.parametrize("name", load().operations)
def test_every_operation_and_parameter_is_described(name: str) -> None:
    operation = load().operations[name].spec
    assert operation["summary"]
    assert operation["description"]
    assert all(parameter["description"] for parameter in operation["parameters"])
    assert all(response["description"] for response in operation["responses"].values())


def test_every_operation_wants_the_bearer_token() -> None:
    assert DOCUMENT["security"] == [{"token": []}]
    assert DOCUMENT["securityDefinitions"]["token"] | {"description": ""} == {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "",
    }
    assert not any("security" in operation.spec for operation in load().operations.values())


@pytest.mark.parametrize("key", ["host", "schemes"])
def test_it_names_no_host_so_that_the_token_goes_where_the_document_came_from(key: str) -> None:
    assert key not in DOCUMENT


def test_it_is_served_as_json(app_with: Callable[..., Any]) -> None:
    response = app_with().get("/v2/swagger.json")
    assert response.content_type == "application/json"
    assert response.json == DOCUMENT


def test_it_is_served_as_yaml_that_means_the_same(app_with: Callable[..., Any]) -> None:
    response = app_with().get("/v2/swagger.yaml")
    assert response.content_type == "application/yaml"
    assert yaml.safe_load(response.body) == DOCUMENT


@pytest.mark.parametrize("prefix", ["/api", "/a/b%20c", ""])
def test_its_base_path_begins_with_the_prefix_that_a_proxy_has_cut_off(
    app_with: Callable[..., Any], prefix: str
) -> None:
    environ = {"SCRIPT_NAME": unquote(prefix)}
    as_json, as_yaml = (
        app_with().get(f"/v2/swagger.{form}", extra_environ=environ) for form in ("json", "yaml")
    )
    assert as_json.json["basePath"] == yaml.safe_load(as_yaml.body)["basePath"] == f"{prefix}/v2"


def test_405_for_other_methods(app_with: Callable[..., Any]) -> None:
    response = app_with().post("/v2/swagger.json", expect_errors=True)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_head_tells_of_it_without_sending_it(app_with: Callable[..., Any]) -> None:
    response = app_with().head("/v2/swagger.json")
    assert (response.status_int, response.body) == (200, b"")


def test_304_to_a_reader_who_has_it(app_with: Callable[..., Any]) -> None:
    app = app_with()
    etag = app.get("/v2/swagger.json").headers["ETag"]
    response = app.get("/v2/swagger.json", headers={"If-None-Match": etag})
    assert response.status_int == 304
    assert response.body == b""


def test_a_generic_swagger_client_builds_itself_from_it() -> None:
    """bravado and its like: resources from tags, methods from operationIds, models from definitions."""
    from bravado_core.spec import Spec

    spec = Spec.from_dict(
        yaml.safe_load(yaml.safe_dump(DOCUMENT)), origin_url="http://127.0.0.1/v2/swagger.json"
    )
    assert (
        spec.resources["Experiments"].get_experiment_results.path_name
        == "/experiments/{experiment_id}/results"
    )
    assert spec.definitions["ExperimentResults"](experiment_id=1).experiment_id == 1
    assert spec.api_url == "http://127.0.0.1/v2"
