"""Experiments that test a feature: its key and name, and the values that variations give to its variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.load import pointer
from optimizely_api.services.experiments import variables
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.http.errors import field_errors
from optimizely_api.services.schema import field_error

Json = dict[str, Any]

FEATURE = "feature"
OF_THE_FEATURE = ("feature_key", "feature_name")
# Their variations and campaigns are of another kind.
NO_TESTS_OF_FEATURES = ("multivariate", "personalization")


async def with_type_and_id(connection: AsyncConnection, document: Json, project_id: int) -> Json:
    """A new experiment without the feature's key and name as sent; with a feature, its type is `feature`.

    The feature is named by its id, or else by its key: 400 for a key of no feature.
    """
    known = {name: value for name, value in document.items() if name not in OF_THE_FEATURE}
    key = document.get("feature_key")
    if "feature_id" not in known and key is not None:
        known["feature_id"] = await _id_of(connection, project_id, key)
    return {**known, "type": FEATURE} if "feature_id" in known else known


async def _id_of(connection: AsyncConnection, project_id: int, key: str) -> int:
    columns = FEATURES.table.c
    query = select(columns.id).where(columns.project_id == project_id, columns.key == key)
    feature_id = (await connection.execute(query)).scalar_one_or_none()
    if feature_id is None:
        raise field_error("/feature_key", "is the key of no feature of this project")
    return int(feature_id)


async def complete(connection: AsyncConnection, document: Json, before: Mapping[str, Any]) -> None:
    """Set the key and the name of the feature, if there is one; 400 for values that do not fit its variables.

    The reference to the feature has been checked. One that an earlier release stored unchecked stays as it is.
    """
    parts = ("feature_id", "variations")
    if "feature_id" not in document or all(document[name] == before.get(name) for name in parts):
        return
    columns = FEATURES.table.c
    query = select(columns.key, columns.name, columns.document).where(columns.id == document["feature_id"])
    feature = (await connection.execute(query)).one_or_none()
    if feature is None:
        return
    document |= {"feature_key": feature.key, "feature_name": feature.name}
    problems = dict(_problems(feature.document.get("variables", []), document, before))
    if problems:
        raise field_errors(problems)


async def with_present_names(connection: AsyncConnection, experiments: Sequence[Json]) -> list[Json]:
    """The experiments with the keys and names that their features have now."""
    ids = {one["feature_id"] for one in experiments if "feature_id" in one}
    if not ids:
        return list(experiments)
    columns = FEATURES.table.c
    query = select(columns.id, columns.key, columns.name).where(columns.id.in_(sorted(ids)))
    names = {
        row.id: {"feature_key": row.key, "feature_name": row.name} for row in await connection.execute(query)
    }
    return [{**one, **names.get(one.get("feature_id"), {})} for one in experiments]


def _problems(known: list[Json], document: Json, before: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    same = before.get("variations", ()) if document["feature_id"] == before.get("feature_id") else ()
    old = {one["variation_id"]: one.get("variable_values", {}) for one in same}
    for number, variation in enumerate(document["variations"]):
        present = old.get(variation["variation_id"], {})
        values = variation.get("variable_values", {})
        if values == present:
            continue
        for key, problem in variables.problems_of_values(known, values, present):
            yield pointer("variations", number, "variable_values", key), problem
