"""The responses that operations share: written once in `swagger.yaml`, added to every operation they apply to.

    x-shared-responses:
      - {status: "404", when: names an entity, response: {$ref: "errors.yaml#/responses/NotFound"}}

An operation's own entry for a status wins. The served document states them all in full, without this key.
"""

from collections.abc import Callable, Mapping
from typing import Any

KEY = "x-shared-responses"

Operation = Mapping[str, Any]  # an operation object, with all its parameters resolved


def _names_an_entity(operation: Operation, _method: str) -> bool:
    """An id in the path or the query may be unknown, or of another account."""
    return any(
        parameter["in"] in ("path", "query") and parameter["name"].endswith("_id")
        for parameter in operation["parameters"]
    )


CONDITIONS: Mapping[str, Callable[[Operation, str], bool]] = {
    "always": lambda _operation, _method: True,
    "reads": lambda _operation, method: method == "get",
    "names an entity": _names_an_entity,
}


def in_order(responses: Mapping[str, Any]) -> dict[str, Any]:
    """The responses by status, `default` last."""
    return {status: responses[status] for status in sorted(responses, key=lambda s: (s == "default", s))}
