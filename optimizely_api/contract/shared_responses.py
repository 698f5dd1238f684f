"""What operations share (responses, headers, parameters): written once in `swagger.yaml`, added wherever it applies.

    x-shared-responses:
      - {status: "404", when: names an entity, response: {$ref: "errors.yaml#/responses/NotFound"}}
    x-shared-headers:
      - {name: ETag, when: reads, header: {type: string, description: ...}}
    x-shared-parameters:
      - {when: creates, parameter: {$ref: "parameters.yaml#/parameters/idempotency_key"}}

Shared headers are those of a 200. An operation's own entry for a status or a header wins. The served document states
them all in full, without these keys.
"""

from collections.abc import Callable, Mapping
from typing import Any

from optimizely_api.contract.composition import may_be_partial

KEY = "x-shared-responses"
HEADERS_KEY = "x-shared-headers"
PARAMETERS_KEY = "x-shared-parameters"
KEYS = (KEY, HEADERS_KEY, PARAMETERS_KEY)
WITHOUT_KEY = (
    "x-without"  # of an operation: the statuses that it never answers with, whatever the conditions say
)

Operation = Mapping[str, Any]  # an operation object, its parameters resolved


def _names_an_entity(operation: Operation, _method: str) -> bool:
    """An id in the path or the query may be unknown, or of another account."""
    return any(
        parameter["in"] in ("path", "query") and parameter["name"].endswith("_id")
        for parameter in operation["parameters"]
    )


def _has(operation: Operation, place: str, name: str = "") -> bool:
    return any(
        parameter["in"] == place and name in ("", parameter["name"]) for parameter in operation["parameters"]
    )


CONDITIONS: Mapping[str, Callable[[Operation, str], bool]] = {
    "always": lambda _operation, _method: True,
    "reads": lambda _operation, method: method == "get",
    "names an entity": _names_an_entity,
    "may be partial": lambda operation, _method: may_be_partial(operation),
    "pages": lambda operation, _method: _has(operation, "query", "page"),
    "has a body": lambda operation, _method: _has(operation, "body"),
    "concerns an account": lambda operation, method: (
        _names_an_entity(operation, method) or _has(operation, "body")
    ),
    "changes an entity": lambda operation, method: (
        method in ("patch", "put", "delete") and _names_an_entity(operation, method)
    ),
    "creates": lambda _operation, method: method == "post",
    "patches": lambda _operation, method: method == "patch",
    "archives": lambda _operation, method: method == "delete",
}


def in_order(responses: Mapping[str, Any]) -> dict[str, Any]:
    """The responses by status, `default` last."""
    return {status: responses[status] for status in sorted(responses, key=lambda s: (s == "default", s))}
