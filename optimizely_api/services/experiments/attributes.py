"""Attributes: what is known of visitors, for audiences and for segments of results."""

from __future__ import annotations

from typing import Any

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.experiments.tables import METADATA, next_ids

ATTRIBUTES = Entity("Attribute", METADATA, next_ids, initial={"description": ""})


@ATTRIBUTES.prepare
def name_defaults_to_the_key(attribute: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    return {**attribute, "name": attribute.get("name") or attribute["key"]}
