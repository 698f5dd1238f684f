"""What the contract's definitions say of an entity: which keys callers may see, which they may set, and examples.

Pure functions of the contract that `load()` returns; names are those of its `definitions`.
"""

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

from optimizely_api.contract.load import Json, is_read_only, load_unchecked, resolve
from optimizely_api.contract.validators import json_schema

Pruner = Callable[[Json], Json]

_NESTING = ("properties", "items", "additionalProperties", "allOf")


def public(name: str, entity: Mapping[str, Json]) -> dict[str, Json]:
    """The entity with nothing but the contract's properties, at every level that the contract describes.

    The services' answers hold more than callers may see, and a release of a service may add to it. An object
    without declared properties is free-form and stays as it is. Nothing of `entity` is changed; a
    caller may change the top level of what is returned, and nothing below it.
    """
    pruned: dict[str, Json] = _pruner_of(name)(entity)
    return dict(pruned) if pruned is entity else pruned


def pruned(schema: Json, value: Json) -> Json:
    """The value without the members that a schema of the contract does not name; the value itself if it has none."""
    pruner = _pruner(schema)
    return value if pruner is None else pruner(value)


def has_definition(name: str) -> bool:
    """Whether the contract has a definition of this name."""
    return name in load_unchecked().document["definitions"]


@lru_cache(maxsize=256)
def writable(name: str) -> dict[str, Json]:
    """The JSON Schema (draft 4) of what a caller may set of an entity: the definition without `readOnly` properties.

    Those with `x-kept-when-sent` are among them: ids that the service makes unless a caller brings them along.
    References stay references, into `definitions` at the root. Callers must not change the schema.
    """
    reached: dict[str, Json] = {}
    schema = _without_read_only(_definition(name), reached)
    return {**schema, "definitions": reached}


def writable_part(name: str, value: Json) -> Json:
    """What a caller may set, of a value sent for the definition: the rest is ignored, not refused."""
    return known_part(writable(name), value)


def known_part(schema: dict[str, Json], value: Json) -> Json:
    """The value without the members that a JSON Schema does not name; free-form objects stay as they are."""
    return _known_part(schema, value, schema.get("definitions", {}))


def _known_part(schema: dict[str, Json], value: Json, definitions: Mapping[str, dict[str, Json]]) -> Json:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list) and "items" in schema:
        return [_known_part(schema["items"], item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "properties" in schema:
        properties = schema["properties"]
        return {
            name: _known_part(properties[name], item, definitions)
            for name, item in value.items()
            if name in properties
        }
    if isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        return {name: _known_part(inner, item, definitions) for name, item in value.items()}
    return value


@lru_cache(maxsize=256)
def defaults(name: str) -> dict[str, Json]:
    """{property: its `default`} for each top-level property of a definition that has one."""
    properties = _properties(_definition(name))
    return {
        key: resolved["default"]
        for key, schema in properties.items()
        if "default" in (resolved := _resolve(schema))
    }


def noun_of(name: str) -> str:
    """A definition's name as ids, messages and paths have it: `list_attribute` for `ListAttribute`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def example(name: str) -> Json:
    """A whole entity made of the `example` values of the contract; properties without one are left out."""
    return _example({"$ref": f"#/definitions/{name}"}, frozenset())


def _example(schema: dict[str, Json], on_the_way: frozenset[str]) -> Json:
    reference = schema.get("$ref", "")
    if reference in on_the_way:
        return None
    resolved = _resolve(schema)
    if "example" in resolved:
        return resolved["example"]
    inside = on_the_way | {reference} if reference else on_the_way
    if properties := _properties(resolved):
        examples = {key: _example(part, inside) for key, part in properties.items()}
        return {key: value for key, value in examples.items() if value is not None} or None
    if "items" in resolved:
        item = _example(resolved["items"], inside)
        return [] if item is None else [item]
    return None


def _followed(
    reference: str,
    reached: dict[str, Json],
    translate: Callable[[Json, dict[str, Json]], dict[str, Json]],
) -> dict[str, Json]:
    """The reference, once the definition that it names is in `reached`, translated."""
    name = reference.rsplit("/", 1)[1]
    if name not in reached:
        reached[name] = {}  # a definition may hold itself
        reached[name] = translate(_definition(name), reached)
    return {"$ref": f"#/definitions/{name}"}


def _without_read_only(schema: Json, reached: dict[str, Json]) -> dict[str, Json]:
    """The schema as JSON Schema without read-only properties; definitions that it names go into `reached`."""
    if "$ref" in schema:
        return _followed(schema["$ref"], reached, _without_read_only)
    kept = dict(json_schema({key: value for key, value in schema.items() if key not in _NESTING}))
    if "properties" in schema:
        kept["properties"] = {
            key: _without_read_only(part, reached)
            for key, part in schema["properties"].items()
            if not _is_only_read(_resolve(part))
        }
        settable = kept["properties"].keys() - set(schema.get("x-optional", ()))
        required = [key for key in schema.get("required", ()) if key in settable]
        kept.pop("required", None)
        if required:
            kept["required"] = required
    if "items" in schema:
        kept["items"] = _without_read_only(schema["items"], reached)
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _without_read_only(schema["additionalProperties"], reached)
    if "allOf" in schema:
        kept["allOf"] = [_without_read_only(part, reached) for part in schema["allOf"]]
    return kept


def _is_only_read(schema: dict[str, Json]) -> bool:
    """Whether callers can set nothing of a property: it is read-only, or all that an object of its kind has is."""
    if schema.get("x-kept-when-sent"):
        return False
    properties = schema.get("properties", {})
    return is_read_only(schema) or (
        bool(properties) and all(is_read_only(inner) for inner in properties.values())
    )


def _definition(name: str) -> dict[str, Json]:
    definition: dict[str, Json] = load_unchecked().document["definitions"][name]
    return definition


def _resolve(schema: Json) -> dict[str, Json]:
    resolved: dict[str, Json] = resolve(load_unchecked().document, schema)
    return resolved


def _properties(schema: dict[str, Json]) -> dict[str, Json]:
    """The properties of a schema and of the schemas that it is composed of."""
    found: dict[str, Json] = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        found |= _properties(_resolve(part))
    return found


# Pruning: compiled once for a definition, since a list response prunes a hundred entities.


@lru_cache(maxsize=256)
def _pruner_of(name: str) -> Pruner:
    # Looked up again by name when it is used: a definition may hold itself.
    return _pruner(_definition(name)) or _same


def _same(value: Json) -> Json:
    return value


def _pruner(schema: Json) -> Pruner | None:
    """A function that prunes a value of this schema; None when there is nothing to prune in it."""
    if "$ref" in schema:
        return _pruner_of_reference(schema["$ref"])
    if properties := _properties(schema):
        return _object_pruner(properties) if _is_object(schema) else None
    if isinstance(schema.get("additionalProperties"), dict):
        return _map_pruner(schema["additionalProperties"])
    return _array_pruner(schema["items"]) if "items" in schema else None


def _is_object(schema: dict[str, Json]) -> bool:
    return bool(schema.get("type", "object") == "object")


def _pruner_of_reference(reference: str) -> Pruner | None:
    name = reference.rsplit("/", 1)[1]
    if not _may_hold_objects(_definition(name), frozenset({name})):
        return None
    return lambda value: _pruner_of(name)(value)


def _may_hold_objects(schema: Json, on_the_way: frozenset[str]) -> bool:
    if "$ref" in schema:
        name: str = schema["$ref"].rsplit("/", 1)[1]
        return name in on_the_way or _may_hold_objects(_definition(name), on_the_way | {name})
    return _is_object(schema) or ("items" in schema and _may_hold_objects(schema["items"], on_the_way))


# What has nothing to lose is passed on as it is: copying every level would take twice as long.


def _object_pruner(properties: dict[str, Json]) -> Pruner:
    known = frozenset(properties)
    inner = tuple(
        (key, pruner) for key, schema in properties.items() if (pruner := _pruner(schema)) is not None
    )

    def prune(value: Json) -> Json:
        if not isinstance(value, dict):
            return value
        kept = value if known.issuperset(value) else {k: item for k, item in value.items() if k in known}
        for key, pruner in inner:
            item = kept.get(key)
            if item is not None and (pruned := pruner(item)) is not item:
                if kept is value:
                    kept = dict(value)
                kept[key] = pruned
        return kept

    return prune


def _map_pruner(schema: Json) -> Pruner | None:
    inner = _pruner(schema)
    if inner is None:
        return None

    def prune(value: Json) -> Json:
        if not isinstance(value, dict):
            return value
        pruned = {key: inner(item) for key, item in value.items()}
        return pruned if any(pruned[key] is not item for key, item in value.items()) else value

    return prune


def _array_pruner(schema: Json) -> Pruner | None:
    inner = _pruner(schema)
    if inner is None:
        return None

    def prune(value: Json) -> Json:
        if not isinstance(value, list):
            return value
        pruned = [inner(item) for item in value]
        return pruned if any(map(operator.is_not, pruned, value)) else value

    return prune
