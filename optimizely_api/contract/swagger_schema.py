"""Whether a document is valid Swagger 2.0, in a fifth of the time of swagger-spec-validator alone.

Fast path: swagger-spec-validator holds the document against the JSON schema of Swagger in Python, which took 40 % of a
worker's start. Here jsonschema-rs does that, and swagger-spec-validator the rest. To compare both: `validate_spec`.
"""

import functools
from typing import Any

import jsonschema_rs
from jsonschema import RefResolver
from swagger_spec_validator import validator20
from swagger_spec_validator.common import read_resource_file

Json = Any

# Where a path or an operation has these, each entry may be a reference to one in the section of the same name.
_SECTIONS = ("parameters", "responses")


def is_valid(document: dict[str, Json]) -> bool:
    """Whether the document fits the schema, and each reference leads to an object of the kind that its place needs.

    Raises SwaggerValidationError for what the schema does not state: a path's parameter that is not declared, a
    default that does not fit its type, and the like. What is wrong with a document that does not fit the schema, and
    where, only `validate_spec` says.
    """
    schema, _ = read_resource_file("schemas/v2.0/schema.json")
    if not jsonschema_rs.Draft4Validator(schema).is_valid(document) or not _leads_to_its_kind(document):
        return False
    deref = functools.partial(validator20.deref, resolver=RefResolver("", document))
    validator20.validate_apis(document["paths"], deref)
    validator20.validate_definitions(document.get("definitions", {}), deref)
    validator20.validate_parameters(document.get("parameters", {}), deref)
    validator20.validate_references(document, deref)
    return True


def _leads_to_its_kind(document: dict[str, Json]) -> bool:
    holders = [*document["paths"].values()]
    holders += [each for item in holders for each in item.values() if isinstance(each, dict)]
    for holder in holders:
        for section in _SECTIONS:
            entries = holder.get(section, ())
            entries = entries.values() if isinstance(entries, dict) else entries
            if not all(_leads_to(section, entry) for entry in entries):
                return False
    return all(
        _leads_to("definitions", node)
        for section in ("definitions", *_SECTIONS)
        for node in document.get(section, {}).values()
    )


def _leads_to(section: str, node: Json) -> bool:
    """Whether a node that is a reference leads to this section, and all references inside of it to definitions."""
    if isinstance(node, list):
        return all(_leads_to("definitions", each) for each in node)
    if not isinstance(node, dict):
        return True
    if isinstance(reference := node.get("$ref"), str):
        return reference.startswith(f"#/{section}/")
    return all(_leads_to("definitions", each) for each in node.values())
