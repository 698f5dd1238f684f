"""The contract's files: how they are joined, and what is said about a broken one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from optimizely_api.contract import InvalidContract, load, subset, swagger_schema
from optimizely_api.contract.load import contract_folder

ROOT = """
swagger: "2.0"
info: {title: Tiny, version: "1"}
basePath: /v2
paths:
  /pets: {$ref: "pets.yaml#/paths/~1pets"}
"""
PETS = """
paths:
  /pets:
    get:
      operationId: list_pets
      tags: [Pets]
      responses:
        "200":
          description: All pets.
          schema: {type: array, items: {$ref: "#/definitions/Pet"}}
        default: {$ref: "shared.yaml#/responses/Failure"}
definitions:
  Pet:
    type: object
    properties:
      born: {type: string, format: date-time, example: 2026-01-31T12:00:00Z}
      answer: {type: string, enum: [yes, no]}
      parent: {$ref: "#/definitions/Pet"}
"""
SHARED = """
responses:
  Failure: {description: It failed., schema: {$ref: "#/definitions/Failure"}}
definitions:
  Failure: {type: object}
  Unused: {type: object}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("swagger.yaml", ROOT), ("pets.yaml", PETS), ("shared.yaml", SHARED)):
        (tmp_path / name).write_text(text)
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SHARED_RESPONSES = """
x-shared-responses:
  - {status: "404", when: names an entity, response: {$ref: "shared.yaml#/responses/Failure"}}
  - {status: "503", when: always, response: {$ref: "shared.yaml#/responses/Failure"}}
  - {status: "200", when: always, response: {$ref: "shared.yaml#/responses/Failure"}}
paths:"""


def test_shared_responses_are_added_where_they_apply(folder: Path) -> None:
    change(folder, "swagger.yaml", "\npaths:", SHARED_RESPONSES)
    document = load(folder).document
    responses = document["paths"]["/pets"]["get"]["responses"]
    assert list(responses) == ["200", "503", "default"]
    assert responses["503"] == {"$ref": "#/responses/Failure"}
    assert responses["200"]["description"] == "All pets."
    assert "x-shared-responses" not in document


def test_an_operation_says_which_shared_responses_it_never_answers_with(folder: Path) -> None:
    change(folder, "swagger.yaml", "\npaths:", SHARED_RESPONSES)
    change(folder, "pets.yaml", "tags: [Pets]", 'tags: [Pets]\n      x-without: ["503"]')
    operation = load(folder).document["paths"]["/pets"]["get"]
    assert list(operation["responses"]) == ["200", "default"]
    assert "x-without" not in operation


def test_an_unknown_condition_of_a_shared_response_is_refused(folder: Path) -> None:
    change(folder, "swagger.yaml", "\npaths:", SHARED_RESPONSES.replace("when: always", "when: never", 1))
    with pytest.raises(InvalidContract, match=r"swagger.yaml, at /x-shared-responses/1: when is never"):
        load(folder)


def test_definitions_of_all_files_keep_their_own_names(folder: Path) -> None:
    document = load(folder).document
    assert list(document["definitions"]) == ["Failure", "Pet"]
    assert document["paths"]["/pets"]["get"]["responses"]["200"]["schema"]["items"] == {
        "$ref": "#/definitions/Pet"
    }


def test_every_definition_carries_its_name_as_x_model() -> None:
    for name, definition in load().document["definitions"].items():
        assert definition["x-model"] == name


def test_a_definition_may_refer_to_itself(folder: Path) -> None:
    assert load(folder).document["definitions"]["Pet"]["properties"]["parent"] == {
        "$ref": "#/definitions/Pet"
    }


def test_no_reference_leads_out_of_the_document() -> None:
    assert {reference[:2] for reference in references(load().document)} == {"#/"}


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [
            *([node["$ref"]] if "$ref" in node else []),
            *(r for value in node.values() for r in references(value)),
        ]
    return [r for item in node for r in references(item)] if isinstance(node, list) else []


def test_yaml_means_what_it_would_mean_as_json(folder: Path) -> None:
    properties = load(folder).document["definitions"]["Pet"]["properties"]
    assert properties["born"]["example"] == "2026-01-31T12:00:00Z"
    assert properties["answer"]["enum"] == ["yes", "no"]


def test_the_fast_check_is_enough_for_it() -> None:
    """A reference of an odd kind would have every worker make the slow one."""
    assert swagger_schema.is_valid(load().document)


def test_it_is_read_once() -> None:
    assert load() is load()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        pytest.param(
            "pets.yaml",
            "tags: [Pets]",
            "tags: [Pets]\n      tags: []",
            r"pets.yaml, at line 7: tags stands twice",
            id="key twice",
        ),
        pytest.param("pets.yaml", "tags: [Pets]", "tags: [Pets", r"pets.yaml, at line", id="no yaml"),
        pytest.param(
            "pets.yaml",
            "#/definitions/Pet",
            "#/definitions/Cat",
            r"pets.yaml, at /paths/~1pets/get/responses/200/schema/items: #/definitions/Cat leads nowhere",
            id="dangling",
        ),
        pytest.param(
            "pets.yaml",
            "shared.yaml#",
            "nowhere.yaml#",
            r"pets.yaml, at /paths/~1pets/get/responses/default: there is no file nowhere.yaml",
            id="no such file",
        ),
        pytest.param(
            "pets.yaml",
            "shared.yaml#",
            "../shared.yaml#",
            r"there is no file ../shared.yaml",
            id="outside the folder",
        ),
        pytest.param(
            "pets.yaml",
            'parent: {$ref: "#/definitions/Pet"}',
            'parent: {$ref: "#/definitions/Pet", x-nullable: true}',
            r"pets.yaml, at /definitions/Pet/properties/parent: what stands beside a \$ref",
            id="beside a ref",
        ),
        pytest.param(
            "pets.yaml",
            'parent: {$ref: "#/definitions/Pet"}',
            'parent: {$ref: "shared.yaml#/definitions/Pet"}',
            r"leads nowhere",
            id="wrong file",
        ),
        pytest.param(
            "pets.yaml",
            'parent: {$ref: "#/definitions/Pet"}',
            "parent: {type: strange}",
            r"pets.yaml, at /definitions/Pet.*strange",
            id="unknown type",
        ),
        pytest.param(
            "pets.yaml",
            'parent: {$ref: "#/definitions/Pet"}',
            'parent: {$ref: "shared.yaml#/responses/Failure"}',
            r"pets.yaml, at /definitions/Pet/properties/parent: 'schema' does not match",
            id="a response as a schema",
        ),
        pytest.param(
            "pets.yaml",
            "#/responses/Failure",
            "#/definitions/Failure",
            r"pets.yaml, at /paths/~1pets/get/responses/default",
            id="a schema as a response",
        ),
        pytest.param(
            "pets.yaml",
            "description: All pets.",
            "summary: All pets.",
            r"pets.yaml, at /paths/~1pets/get/responses/200",
            id="no description",
        ),
        pytest.param(
            "pets.yaml",
            "operationId: list_pets",
            "summary: List",
            r"pets.yaml, at /paths/~1pets/get: operationId None",
            id="no operationId",
        ),
        pytest.param(
            "swagger.yaml",
            '"pets.yaml#/paths/~1pets"',
            '"pets.yaml#/definitions/Pet"',
            r"swagger.yaml, at /paths/~1pets: .* is not under /paths",
            id="not a path",
        ),
        pytest.param(
            "swagger.yaml", 'swagger: "2.0"', 'swagger: "3.0"', r"swagger.yaml", id="another version"
        ),
    ],
)
def test_a_broken_contract_is_named_by_file_and_place(
    folder: Path, name: str, old: str, new: str, message: str
) -> None:
    change(folder, name, old, new)
    with pytest.raises(InvalidContract, match=message):
        load(folder)


def test_two_files_may_not_define_the_same_name(folder: Path) -> None:
    change(
        folder,
        "shared.yaml",
        "{type: object}\n  Unused",
        '{type: object, properties: {pet: {$ref: "#/definitions/Pet"}}}\n  Pet',
    )
    with pytest.raises(
        InvalidContract, match=r"shared.yaml, at /definitions/Pet: pets.yaml has a Pet of its own"
    ):
        load(folder)


def test_a_checkout_keeps_the_files_beside_the_package_and_a_wheel_inside(tmp_path: Path) -> None:
    assert contract_folder().name == "swagger"
    inside = tmp_path / "site-packages" / "optimizely_api"
    shutil.copytree(contract_folder(), inside / "swagger")
    assert load(inside / "swagger").document == load().document


def test_a_subset_keeps_only_its_operations() -> None:
    part = subset(load(), ["get_experiment_results"])
    assert list(part.operations) == ["get_experiment_results"]
    assert list(part.document["paths"]) == ["/experiments/{experiment_id}/results"]
