"""Load the contract: several YAML files become one Swagger 2.0 document, checked before anything is served.

`swagger.yaml` names the paths; each of its `$ref`s leads to a file per resource. A `$ref` between files may point
to an entry of `definitions`, `parameters`, `responses` or `paths`. In the flattened document every definition keeps
its own name (`#/definitions/Experiment`) and carries it as `x-model`, so that generic clients find it.
"""

import copy
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from swagger_spec_validator import SwaggerValidationError
from swagger_spec_validator.validator20 import validate_spec

from optimizely_api.contract import examples, shared_responses, swagger_schema
from optimizely_api.contract.composition import (
    COMPOSITION,
    MISSING_PARTS,
    Composition,
    InvalidComposition,
    read_composition,
)
from optimizely_api.start_failures import CannotStart

Json = Any

CONTRACT = "optimizely_api.contract"  # where the registry keeps the Contract
ROOT_FILE = "swagger.yaml"
RESOURCES = "x-resources"  # of the root: the files whose paths make the document
SECTIONS = ("definitions", "parameters", "responses")
METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


class InvalidContract(CannotStart, ValueError):
    """A contract that stops start-up; the message names the file and the place in it."""

    def __init__(self, file: str, place: str, problem: str) -> None:
        super().__init__(f"swagger/{file}, at {place or '/'}: {problem}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the contract: what routes, checks and documents need to know of it."""

    operation_id: str
    method: str  # in capitals
    path: str  # with the basePath, parameters in braces
    spec: dict[str, Json]  # the operation object, its references to parameters and responses resolved
    composition: Composition  # the parts of its response


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """The flattened document, and its operations by operationId.

    Hashed by identity: what is derived from a contract is kept by `functools.lru_cache`.
    """

    document: dict[str, Json]
    operations: dict[str, Operation]

    @property
    def base_path(self) -> str:
        return str(self.document.get("basePath", "")).rstrip("/")


def subset(contract: Contract, operation_ids: Iterable[str]) -> Contract:
    """The same contract with only these operations, for an application that answers no others."""
    kept = {operation_id: contract.operations[operation_id] for operation_id in operation_ids}
    places = {
        (operation.path.removeprefix(contract.base_path), operation.method.lower())
        for operation in kept.values()
    }
    paths: dict[str, Json] = {}
    for path, item in contract.document["paths"].items():
        left = {key: value for key, value in item.items() if key not in METHODS or (path, key) in places}
        if any(key in METHODS for key in left):
            paths[path] = left
    return Contract({**contract.document, "paths": paths}, kept)


def contract_folder() -> Path:
    """The folder of the YAML files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "swagger", package.parent / "swagger"):
        if (folder / ROOT_FILE).is_file():
            return folder
    raise FileNotFoundError(f"no {ROOT_FILE} in {package / 'swagger'} nor in {package.parent / 'swagger'}")


@functools.lru_cache(maxsize=4)
def load(folder: Path | None = None) -> Contract:
    """Return the contract of `folder`, read and checked once; callers must not change it.

    Raises InvalidContract for a file that cannot be read, a reference that leads nowhere and a document that is
    not valid Swagger 2.0.
    """
    document, flattener = _flattened(folder)
    _check_swagger(document, flattener.origins)
    return _contract(folder)


def load_unchecked(folder: Path | None = None) -> Contract:
    """Return the same contract without the check against Swagger 2.0, for what only reads definitions.

    The services do; the gateway does not start with an invalid document.
    """
    return _contract(folder)


@functools.lru_cache(maxsize=4)
def _contract(folder: Path | None) -> Contract:
    document, flattener = _flattened(folder)
    return Contract(
        document, {operation.operation_id: operation for operation in _operations(document, flattener)}
    )


@functools.lru_cache(maxsize=4)
def _flattened(folder: Path | None) -> "tuple[dict[str, Json], _Flattener]":
    flattener = _Flattener(folder or contract_folder())
    return flattener.flatten(), flattener


class _Flattener:
    """Follows the references of `swagger.yaml` and collects what they lead to, by name.

    Not bravado-core's `Spec.flattened_spec`, which names parameters, responses and some definitions after their files
    (`lfile:errors.yaml|..responses..NotFound`), and does not say in which file and place a reference leads nowhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Json] = {}
        self._collected: dict[str, dict[str, Json]] = {section: {} for section in SECTIONS}
        self.origins: dict[tuple[str, str], str] = {}  # (section, name) -> file

    def flatten(self) -> dict[str, Json]:
        root = self._file(ROOT_FILE)
        apart = ("paths", RESOURCES, examples.KEY, *shared_responses.KEYS, *SECTIONS)
        document = {key: value for key, value in root.items() if key not in apart}
        document["paths"] = {path: self._path_item(path, item) for path, item in self._paths(root)}
        for item in document["paths"].values():
            self._add_shared_parameters(item)
            self._add_shared_responses(item)
        self._add_examples(root, document["paths"].values())
        for section in SECTIONS:
            names = self._collected[section]
            document[section] = {name: names[name] for name in sorted(names)}
        for name, definition in document["definitions"].items():
            definition["x-model"] = name
        return document

    def _paths(self, root: dict[str, Json]) -> Iterator[tuple[str, Json]]:
        """The paths of each file under `x-resources`, and those that the root names itself."""
        for index, file in enumerate(root.get(RESOURCES, ())):
            for path in self._file(file, named_by=(ROOT_FILE, pointer(RESOURCES, index)))["paths"]:
                yield path, {"$ref": f"{file}#/paths/{_escape(path)}"}
        yield from root.get("paths", {}).items()

    def _path_item(self, path: str, item: Json) -> Json:
        if not isinstance(item, dict) or list(item) != ["$ref"]:
            raise InvalidContract(
                ROOT_FILE, pointer("paths", path), "each path is one $ref to the file of its resource"
            )
        file, section, name = self._parse(ROOT_FILE, pointer("paths", path), item["$ref"])
        if section != "paths":
            raise InvalidContract(ROOT_FILE, pointer("paths", path), f"{item['$ref']} is not under /paths")
        self.origins["paths", path] = file
        return self._rewrite(file, pointer("paths", name), self._target(file, section, name))

    def _add_examples(self, root: dict[str, Json], items: Iterable[Json]) -> None:
        file = root.get(examples.KEY)
        if file is None:
            return
        given = examples.Examples(self._file(file, named_by=(ROOT_FILE, pointer(examples.KEY))))
        for item in items:
            for method in METHODS:
                if method in item:
                    item[method]["parameters"] = self._with_examples(item, method, given)
        for operation_id, name in sorted(given.unused):
            raise InvalidContract(file, pointer("operations", operation_id, name), "no operation has it")

    def _with_examples(self, item: Json, method: str, given: examples.Examples) -> list[Json]:
        """The parameters of an operation; those without an example stay references."""
        nodes = {}
        for node in [*item.get("parameters", []), *item[method].get("parameters", [])]:
            parameter = resolve(self._collected, node)
            with_example = given.given_to(item[method].get("operationId"), parameter)
            nodes[parameter["in"], parameter["name"]] = node if with_example is parameter else with_example
        return list(nodes.values())

    def _add_shared_parameters(self, item: Json) -> None:
        for method in METHODS:
            if method not in item:
                continue
            resolved = {"parameters": _parameters(self._collected, item, method)}
            shared = [
                parameter for applies, parameter in self._shared_parameters if applies(resolved, method)
            ]
            if shared:
                item[method]["parameters"] = [*item[method].get("parameters", ()), *shared]

    def _add_shared_responses(self, item: Json) -> None:
        for method in METHODS:
            if method not in item:
                continue
            operation, own = item[method], item[method]["responses"]
            without = operation.pop(shared_responses.WITHOUT_KEY, ())
            resolved = {**operation, "parameters": _parameters(self._collected, item, method)}
            shared = {
                status: response
                for status, applies, response in self._shared_responses
                if status not in own and status not in without and applies(resolved, method)
            }
            operation["responses"] = shared_responses.in_order({**own, **shared})
            for name, applies, header in self._shared_headers:
                if "200" in own and "$ref" not in own["200"] and applies(resolved, method):
                    own["200"].setdefault("headers", {}).setdefault(name, header)

    @functools.cached_property
    def _shared_parameters(self) -> list[tuple[Any, Json]]:
        """(condition, reference inside the document) of each entry of `x-shared-parameters`."""
        return [
            (
                self._condition(entry["when"], place),
                self._rewrite(ROOT_FILE, f"{place}/parameter", entry["parameter"]),
            )
            for entry, place in self._entries(shared_responses.PARAMETERS_KEY)
        ]

    @functools.cached_property
    def _shared_headers(self) -> list[tuple[str, Any, Json]]:
        """(name, condition, header object) of each entry of `x-shared-headers`."""
        return [
            (entry["name"], self._condition(entry["when"], place), entry["header"])
            for entry, place in self._entries(shared_responses.HEADERS_KEY)
        ]

    def _entries(self, key: str) -> Iterator[tuple[dict[str, Json], str]]:
        for index, entry in enumerate(self._file(ROOT_FILE).get(key, ())):
            yield entry, pointer(key, index)

    def _condition(self, name: str, place: str) -> Any:
        if name not in shared_responses.CONDITIONS:
            known = ", ".join(shared_responses.CONDITIONS)
            raise InvalidContract(ROOT_FILE, place, f"when is {name}, none of {known}")
        return shared_responses.CONDITIONS[name]

    @functools.cached_property
    def _shared_responses(self) -> list[tuple[str, Any, Json]]:
        """(status, condition, reference inside the document) of each entry of `x-shared-responses`."""
        return [
            (
                entry["status"],
                self._condition(entry["when"], place),
                self._rewrite(ROOT_FILE, f"{place}/response", entry["response"]),
            )
            for entry, place in self._entries(shared_responses.KEY)
        ]

    def _rewrite(self, file: str, place: str, node: Json) -> Json:
        """Copy a node, its references turned into references inside the flattened document."""
        if isinstance(node, list):
            return [self._rewrite(file, f"{place}/{index}", item) for index, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str):
            if len(node) > 1:
                raise InvalidContract(
                    file, place, "what stands beside a $ref is ignored by readers: move it away"
                )
            return {"$ref": self._collect(file, place, node["$ref"])}
        return {key: self._rewrite(file, f"{place}/{_escape(key)}", value) for key, value in node.items()}

    def _collect(self, file: str, place: str, reference: str) -> str:
        target_file, section, name = self._parse(file, place, reference)
        if section not in SECTIONS:
            raise InvalidContract(file, place, f"{reference} points to none of {', '.join(SECTIONS)}")
        known = self.origins.setdefault((section, name), target_file)
        if known != target_file:
            raise InvalidContract(target_file, pointer(section, name), f"{known} has a {name} of its own")
        if name not in self._collected[section]:
            target = self._target(target_file, section, name)
            self._collected[section][name] = (
                None  # found again while it is being followed: a recursive definition
            )
            self._collected[section][name] = self._rewrite(target_file, pointer(section, name), target)
        return f"#/{section}/{name}"

    def _parse(self, file: str, place: str, reference: str) -> tuple[str, str, str]:
        target_file, hash_sign, fragment = reference.partition("#")
        parts = [part.replace("~1", "/").replace("~0", "~") for part in fragment.split("/")]
        if not hash_sign or len(parts) != 3 or parts[0]:
            raise InvalidContract(file, place, f"{reference} is not of the form file.yaml#/section/name")
        target_file = target_file or file
        if (
            parts[1] not in self._file(target_file, named_by=(file, place))
            or parts[2] not in self._files[target_file][parts[1]]
        ):
            raise InvalidContract(file, place, f"{reference} leads nowhere")
        return target_file, parts[1], parts[2]

    def _target(self, file: str, section: str, name: str) -> Json:
        return self._files[file][section][name]

    def _file(self, name: str, named_by: tuple[str, str] | None = None) -> Json:
        if name not in self._files:
            path = self._folder / name
            if path.parent != self._folder or not path.is_file():
                raise InvalidContract(*(named_by or (name, "")), f"there is no file {name}")
            self._files[name] = _read_yaml(path)
        return self._files[name]


class _JsonLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML that means what it would mean as JSON.

    Dates stay text, only `true` and `false` are booleans, every key is text, and no key stands twice.

    Not ruamel.yaml: as YAML 1.2 it still reads dates, `True`, `.inf` and `1_000` as such, the key `200` as a number,
    so that these rules would have to be written for it too, beside the PyYAML that bravado-core brings anyway.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _add_json_scalars() -> None:
    for tag, pattern, first in (
        ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
        ("tag:yaml.org,2002:null", r"^(?:null|~|)$", ["n", "~", ""]),
        ("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
        ("tag:yaml.org,2002:float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", "-0123456789"),
    ):
        _JsonLoader.add_implicit_resolver(tag, re.compile(pattern), list(first))


def _construct_mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Json]:
    mapping: dict[str, Json] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is not text", problem_mark=key_node.start_mark)
        if key_node.value in mapping:
            raise yaml.MarkedYAMLError(
                problem=f"{key_node.value} stands twice", problem_mark=key_node.start_mark
            )
        mapping[key_node.value] = loader.construct_object(value_node, deep=True)
    return mapping


_add_json_scalars()
_JsonLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _read_yaml(path: Path) -> dict[str, Json]:
    try:
        content = yaml.load(path.read_bytes(), Loader=_JsonLoader)  # noqa: S506 - built on the safe loader
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidContract(path.name, place, error.problem or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidContract(path.name, "", str(error)) from error
    if not isinstance(content, dict):
        raise InvalidContract(path.name, "", "not a mapping")
    return content


def _check_swagger(document: dict[str, Json], origins: dict[tuple[str, str], str]) -> None:
    try:
        if not swagger_schema.is_valid(document):
            # A copy, since the validator leaves notes (x-scope) in what it reads.
            validate_spec(copy.deepcopy(document))
    except SwaggerValidationError as error:
        cause = error.__cause__ or (error.args[1] if len(error.args) > 1 else None)
        place = [str(part) for part in getattr(cause, "absolute_path", ())]
        file = (
            origins.get((place[0], place[1]), ROOT_FILE)
            if len(place) > 1
            else _guess_file(str(error), origins)
        )
        raise InvalidContract(
            file, pointer(*place), getattr(cause, "message", None) or str(error.args[0])
        ) from error


def _guess_file(message: str, origins: dict[tuple[str, str], str]) -> str:
    """Some of the validator's errors name the place in their text only."""
    named = [(len(name), file) for (_, name), file in origins.items() if name in message]
    return max(named)[1] if named else ROOT_FILE


def _operations(document: dict[str, Json], flattener: _Flattener) -> Iterator[Operation]:
    base_path = document.get("basePath", "").rstrip("/")
    seen: set[str] = set()
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            place = pointer("paths", path, method)
            operation_id = item[method].get("operationId")
            if not operation_id or operation_id in seen:
                raise InvalidContract(
                    flattener.origins["paths", path],
                    place,
                    f"operationId {operation_id} is missing or not unique",
                )
            seen.add(operation_id)
            spec = _resolved(document, item, method)
            try:
                composition = read_composition(spec, has_member=_names_missing_parts(document, spec))
            except InvalidComposition as exc:
                where = f"{place}{pointer(COMPOSITION, *filter(None, [exc.part]))}"
                raise InvalidContract(flattener.origins["paths", path], where, exc.problem) from None
            yield Operation(operation_id, method.upper(), base_path + path, spec, composition)


def _names_missing_parts(document: dict[str, Json], spec: dict[str, Json]) -> bool:
    schema = resolve(document, spec["responses"].get("200", {}).get("schema", {}))
    return MISSING_PARTS in schema.get("properties", {})


def _resolved(document: dict[str, Json], item: Json, method: str) -> dict[str, Json]:
    """The operation object with the path's parameters, and without references to parameters and responses."""
    spec = item[method]
    responses = {status: resolve(document, response) for status, response in spec["responses"].items()}
    return {**spec, "parameters": _parameters(document, item, method), "responses": responses}


def _parameters(document: dict[str, Json], item: Json, method: str) -> list[Json]:
    """An operation's parameters, resolved: its own win over those of its path."""
    parameters = {}
    for parameter in [*item.get("parameters", []), *item[method].get("parameters", [])]:
        parameter = resolve(document, parameter)
        parameters[parameter["in"], parameter["name"]] = parameter
    return list(parameters.values())


def is_read_only(schema: Mapping[str, Json]) -> bool:
    """Whether callers cannot set a property; the public contract marks some that they do set (`x-settable`)."""
    return bool(schema.get("readOnly")) and not schema.get("x-settable")


def resolve(document: dict[str, Json], node: Json) -> Json:
    """Follow the reference of a node, if it is one."""
    while isinstance(node, dict) and "$ref" in node:
        _, section, name = node["$ref"].split("/")
        node = document[section][name]
    return node


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{_escape(str(part))}" for part in parts)


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
