"""The shapes of the services' responses, checked before anything is composed of them.

A response with another shape is a fault of the service: a 502 that names it. Without this check it would surface as a
500 of the gateway, or not at all. The public definitions come from the contract; this module adds the keys that only
the gateway sees.
"""

from collections.abc import Callable, Mapping
from typing import Any

Schema = dict[str, Any]
Check = Callable[[Any], str | None]  # returns where a value violates its shape, or None

_ID = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}
_BASE64 = {
    "type": "string",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
_NAMES = {"type": "array", "items": {"type": "string"}}
_ACCOUNT = {"id": _ID, "account_id": _ID, "project_id": _ID}
# What a claim of an idempotency key has beside its state.
_CLAIMS: Mapping[str, Mapping[str, Schema]] = {
    "claimed": {"operation": _TEXT},
    "answered": {
        "status": {"type": "integer", "minimum": 200, "maximum": 499},
        "entity_tag": {"type": "string", "pattern": "^[ -~]*$"},
        "body": _BASE64,
    },
    "under_way": {"retry_after_seconds": _COUNT},
    "of_another_request": {},
}


def schemas() -> dict[str, Schema]:
    """Return {shape name: schema object of Swagger 2.0, or `oneOf`}; `#/definitions/...` is one of the contract's."""
    entities = {
        "Project": _entity(
            "Project", {"id": _ID, "account_id": _ID, "confidence_threshold": {"type": "number"}}
        ),
        "Experiment": _entity(
            "Experiment",
            {
                **_ACCOUNT,
                "layer_id": _ID,
                "results_settings": _entity(
                    None,
                    {
                        "metrics": {"type": "array", "items": {"$ref": "#/definitions/Metric"}},
                        "metric_names": _NAMES,
                        "variations": {"type": "array", "items": _entity(None, {"variation_id": _ID})},
                        "stats_config": {"$ref": "#/definitions/StatsConfig"},
                    },
                ),
            },
        ),
        "Layer": _entity(
            "Campaign",
            {**_ACCOUNT, "metric_names": _NAMES, "experiment_ids": {"type": "array", "items": _ID}},
        ),
    }
    # Of an account and of no project.
    entities["SubjectAccessRequest"] = _entity("SubjectAccessRequest", {"id": _ID, "account_id": _ID})
    results = {
        "start_time": {"type": "string"},
        "end_time": {"type": "string"},
        "is_stale": {"type": "boolean"},
        "metrics": {"type": "array"},
    }
    user = _entity(None, {"id": {"type": "string"}, "account_id": _ID, "roles": {"type": "object"}})
    ratio = {"sample_ratio_p_value": {"type": "number"}}
    roles = {"type": "object", "additionalProperties": _TEXT}
    token_user = _entity(
        None,
        {"id": _TEXT, "email": _TEXT, "is_administrator": {"type": "boolean"}, "roles": roles},
        {"first_name": _TEXT, "last_name": _TEXT},
    )
    label = _entity(None, {**_ACCOUNT, "name": {"type": "string"}, "status": {"type": "string"}})
    registered = _entity(None, {"environment_id": _ID, "revision": _ID, "size": _ID})
    snippet = _entity(None, {"project_id": _ID, "revision": _ID, "size": _ID})
    decision = _entity(None, {"experiment_id": _ID, "timestamp": {"type": "integer"}})
    count = _entity(None, {"experiment_id": _ID, "impressions": _COUNT})
    return {
        **entities,
        **{f"{name}List": _list_of(schema) for name, schema in entities.items()},
        "ExperimentLabelList": _list_of(label),
        "Decisions": _entity(
            None,
            {
                "total": _COUNT,
                "items": {"type": "array", "items": decision},
            },
        ),
        "Impressions": _entity(None, {"items": {"type": "array", "items": count}}),
        "Account": _entity(None, {"id": _ID}),
        "UserList": _list_of(user),
        "BuiltDatafile": _entity(
            None, {"sdk_key": _TEXT, "revision": _ID, "last_modified": _TIME, "content": _TEXT}
        ),
        "Registered": _entity(None, {"items": {"type": "array", "items": registered}}),
        "Snippets": _entity(None, {"items": {"type": "array", "items": snippet}}),
        "SarExport": _entity(None, {"id": _ID, "content": _BASE64}),
        "SdkKey": _entity(None, {"sdk_key": _TEXT, "environment_id": _ID}),
        "Claim": {
            "oneOf": [
                _entity(None, {"key_sha256": _TEXT, "state": {"enum": [state]}, **members})
                for state, members in _CLAIMS.items()
            ]
        },
        "Results": _entity("ExperimentResults", {**results, "reach": {"type": "object"}}, ratio),
        "Timeseries": _entity("ExperimentTimeseries", results, ratio),
        "Token": _entity(
            None,
            {"account_id": _ID},
            {"token_id": _COUNT, "name": _TEXT, "user": {**token_user, "x-nullable": True}},
        ),
        "Health": _entity(None, {"status": {"type": "string"}}),
    }


class Checks(dict[str, Check]):
    """The compiled shapes by name; `compile_schema` resolves references to the contract's definitions.

    A definition without a shape in `schemas()` is an entity of an account; with the suffix `List`, a list of them.
    """

    def __init__(self, compile_schema: Callable[[Schema], Check]) -> None:
        super().__init__((name, compile_schema(schema)) for name, schema in schemas().items())
        self._compile = compile_schema

    def __missing__(self, name: str) -> Check:
        entity = _entity(name.removesuffix("List"), _ACCOUNT)
        check = self._compile(_list_of(entity) if name.endswith("List") else entity)
        return self.setdefault(name, check)


def _entity(
    definition: str | None, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    properties = {**required, **(optional or {})}
    own: Schema = {"type": "object", "required": list(required), "properties": properties}
    return {"allOf": [{"$ref": f"#/definitions/{definition}"}, own]} if definition else own


def _list_of(entity: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["total", "items"],
        "properties": {
            "total": _COUNT,
            "items": {"type": "array", "items": entity},
        },
    }
