"""The parts of a response as the contract has them: read, put into steps, and refused where they cannot be fetched."""

import re
from pathlib import Path
from typing import Any

import pytest

from optimizely_api.contract import InvalidContract, load
from optimizely_api.contract.composition import COMPOSITION, Composition, may_be_partial, read_composition
from optimizely_api.contract.load import resolve
from tests.contract.test_load import change, folder  # noqa: F401 - the fixture of a contract of three files

CONTRACT = load()
COMPOSED = {name: one for name, one in CONTRACT.operations.items() if one.composition.parts}
PARTIAL = [name for name, one in COMPOSED.items() if may_be_partial(one.spec)]


def part(after: tuple[str, ...] = (), optional: str | None = None) -> dict[str, Any]:
    stated = {"service": "shop", "call": "GET /pets/{pet_id}", "after": list(after)}
    return stated if optional is None else {**stated, "optional": optional}


PET = 'pet: {service: shop, call: "GET /pets"'  # its brace is left open
EGG = 'egg: {service: shop, call: "GET /eggs", after: [pet]}'


def composition(**parts: Any) -> Composition:
    return read_composition({COMPOSITION: parts})


def test_calls_are_sent_together_as_early_as_their_parts_allow() -> None:
    read = composition(pet=part(), owner=part(("pet",)), shop=part(), bill=part(("owner", "shop")))
    assert read.steps == (("pet", "shop"), ("owner",), ("bill",))


def test_an_optional_part_that_no_other_needs_is_asked_for_last() -> None:
    """A required part would wait for it otherwise, however slow it is."""
    read = composition(
        pet=part(), photo=part(("pet",), "No photo."), owner=part(("pet",)), bill=part(("owner",))
    )
    assert read.steps == (("pet",), ("owner",), ("photo", "bill"))


def test_parts_after_a_missing_one_are_missing_too() -> None:
    read = composition(
        pet=part(),
        photo=part(("pet",), "No photo."),
        size=part(("photo",), "No size."),
        name=part(("pet",), "No name."),
    )
    assert read.lost_with("photo") == ("photo", "size")
    assert read.lost_with("pet") == ()  # the response needs it


def test_a_call_belongs_to_the_part_of_its_service_method_and_path() -> None:
    read = composition(pet=part())
    assert read.parts_of("shop", "GET", "/pets/7") == ["pet"]
    for other in (("zoo", "GET", "/pets/7"), ("shop", "POST", "/pets/7"), ("shop", "GET", "/pets/7/8")):
        assert read.parts_of(*other) == []


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        pytest.param("7", "not a mapping of parts", id="number"),
        pytest.param("{pet: 7}", "pet: a part has service and call", id="no mapping"),
        pytest.param("{pet: {service: shop}}", "pet: a part has service and call", id="no call"),
        pytest.param(f"{{{PET}, needs: [x]}}}}", "pet: a part has service and call", id="unknown key"),
        pytest.param("{pet: {service: a, call: /pets}}", "/pets is not of the form `GET", id="no method"),
        pytest.param(f"{{{PET}, optional: true}}}}", "optional is the text", id="no text"),
        pytest.param(f"{{{PET}, after: [egg]}}}}", "after egg, which is no part", id="unknown part"),
        pytest.param(f"{{{PET}, after: [egg]}}, {EGG}}}", "after itself, by way of other parts", id="circle"),
        pytest.param(f"{{{PET}, optional: x}}, {EGG}}}", "required, but after pet, which is", id="required"),
    ],
)
def test_a_composition_that_cannot_be_fetched_stops_the_start(
    folder: Path,  # noqa: F811
    stated: str,
    message: str,
) -> None:
    change(folder, "pets.yaml", "tags: [Pets]", f"tags: [Pets]\n      {COMPOSITION}: {stated}")
    with pytest.raises(
        InvalidContract, match=rf"pets.yaml, at /paths/~1pets/get/{COMPOSITION}.*{re.escape(message)}"
    ):
        load(folder)


@pytest.mark.parametrize("name", PARTIAL)
def test_a_response_that_may_lack_a_part_declares_where_it_says_so(name: str) -> None:
    operation = COMPOSED[name]
    assert "X-Unreachable" in operation.spec["responses"]["200"]["headers"]
    schema = resolve(CONTRACT.document, operation.spec["responses"]["200"].get("schema", {}))
    if operation.composition.has_member:
        assert schema["properties"]["unreachable"]["type"] == "array"
        assert "unreachable" not in schema.get("required", ())


@pytest.mark.parametrize("name", COMPOSED)
def test_only_what_reads_is_composed(name: str) -> None:
    """A write that is half done would have to be undone."""
    assert COMPOSED[name].method == "GET"


def test_results_are_never_without_what_their_figures_are_made_of() -> None:
    for name, operation in COMPOSED.items():
        for one in operation.composition.parts.values():
            if one.service == "results":
                assert not one.is_optional, name
