"""The examples of requests: written once by name in a file of their own, given to parameters as `x-example`.

    parameters: {project_id: 10000000002}
    operations: {list_features: {project_id: 10000000005}, create_page: {body: {...}}}

Values of `parameters` are for required parameters of all operations. Those of an operation win, and may belong to a
parameter that is not required.
"""

from collections.abc import Mapping
from typing import Any

KEY = "x-examples"  # of the root: the file's name
EXAMPLE = "x-example"

Json = Any


class Examples:
    """The examples of a file; `unused` names what no operation has taken."""

    def __init__(self, content: Mapping[str, Json]) -> None:
        self._common: Mapping[str, Json] = content.get("parameters", {})
        self._own: Mapping[str, Mapping[str, Json]] = content.get("operations", {})
        self.unused = {(operation, name) for operation, own in self._own.items() for name in own}

    def given_to(self, operation_id: str, parameter: dict[str, Json]) -> dict[str, Json]:
        """The parameter with its example, or the parameter itself if there is none."""
        name = parameter["name"]
        self.unused.discard((operation_id, name))
        own = self._own.get(operation_id, {})
        if name in own:
            return {**parameter, EXAMPLE: own[name]}
        if name in self._common and parameter.get("required"):
            return {**parameter, EXAMPLE: self._common[name]}
        return parameter
