"""What variations change on pages: the members that each type of change needs, and those that the service adds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optimizely_api.services.http.errors import field_errors

Json = dict[str, Any]
Problem = tuple[str, str]

NEEDED: Mapping[str, tuple[str, ...]] = {
    "attribute": ("selector", "attributes"),
    "custom_code": ("value",),
    "custom_css": ("value",),
    "extension": ("extension_id",),
    "insert_html": ("selector",),
    "insert_image": ("selector",),
    "redirect": ("preserve_parameters", "allow_additional_redirect"),
}
OPERATORS = ("before", "after", "prepend", "append", "replace")
DEFAULTS: Mapping[str, Json] = {
    "custom_code": {"async": False},
    "custom_css": {"selector": "head"},
    "insert_html": {"operator": "after"},
    "insert_image": {"operator": "after"},
}


def completed(changes: Sequence[Json], before: Sequence[Json] = ()) -> list[Json]:
    """The changes with the members that the service adds, and each with an id for others to depend on.

    A change without an id is the one of `before` that says the same, if there is one: scripts keep no ids.
    """
    known = [one for one in before if one["id"] not in {change.get("id") for change in changes}]
    result = []
    for change in changes:
        whole = {"dependencies": [], **DEFAULTS.get(change["type"], {}), **change}
        if "id" not in whole:
            same = next((one for one in known if {**whole, "id": one["id"]} == one), None)
            known = [one for one in known if one is not same]
            whole = {"id": same["id"] if same else str(uuid.uuid4()), **whole}
        result.append(whole)
    return result


def check(document: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """400 for each new change of an experiment, a campaign or a section that its type does not allow.

    Changes that were there before may stay as an earlier release took them.
    """
    present = [changes for _, changes in _lists(before)]
    problems = {
        pointer: problem
        for place, changes in _lists(document)
        if changes not in present
        for pointer, problem in _problems(place, changes)
    }
    if problems:
        raise field_errors(problems)


def _lists(document: Mapping[str, Any]) -> Iterator[tuple[str, list[Json]]]:
    """(pointer, changes) for each list of changes in a document."""
    yield "/changes", document.get("changes", [])
    for number, variation in enumerate(document.get("variations", ())):
        for place, action in enumerate(variation.get("actions", ())):
            yield f"/variations/{number}/actions/{place}/changes", action.get("changes", [])


def _problems(place: str, changes: Sequence[Json]) -> Iterator[Problem]:
    ids = {change["id"].lower() for change in changes if "id" in change}
    for number, change in enumerate(changes):
        pointer, kind = f"{place}/{number}", change["type"]
        for name in NEEDED[kind]:
            if name not in change:
                yield f"{pointer}/{name}", f"is required with the type {kind}"
        if kind in ("insert_html", "insert_image") and change.get("operator", "after") not in OPERATORS:
            yield f"{pointer}/operator", f"must be one of {', '.join(OPERATORS)}"
        if kind == "redirect":
            yield from _problems_of_redirect(pointer, change)
        for position, dependency in enumerate(change.get("dependencies", ())):
            if dependency.lower() not in ids:
                yield f"{pointer}/dependencies/{position}", "is no id of a change of the same list"


def _problems_of_redirect(pointer: str, change: Json) -> Iterator[Problem]:
    has_function = "destination_function" in change
    if has_function and "destination" in change:
        yield f"{pointer}/destination_function", "is not possible together with destination"
    elif not has_function and "destination" not in change:
        yield f"{pointer}/destination", "is required with the type redirect, or else destination_function"
    if has_function and change.get("preserve_parameters"):
        yield f"{pointer}/preserve_parameters", "must be false with destination_function"
