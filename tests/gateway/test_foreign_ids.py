"""Ids of another account and of another project: refused wherever a request names one; nothing is shown or changed.

Made from the contract: every parameter of an address and of a query and every member of a body that names an entity, of
every operation. A name that is not known here fails, so that a new one is thought about.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from optimizely_api.contract import load
from optimizely_api.contract.definitions import writable
from optimizely_api.contract.load import Operation
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED
from tests.support.promises import OTHER
from tests.support.real_services import AS_GATEWAY, RealServices

Json = dict[str, Any]
CONTRACT = load()
HIDDEN = "hidden-from-others"

# Names in the contract of what lies outside of the account's entities.
NO_ENTITIES = {
    "visitor_id",
    *("dcp_service_id", "user_id"),  # of other systems
    *("catalog_id", "recommender_id"),  # folders in the account's own folder
}
# Names that do not say the kind of what they name, by their ends.
KINDS = {
    "request_id": "subject_access_request",
    "baseline_variation_id": "variation",
    "experiment_priorities/*/*": "experience",
    "page_ids/*": "page",
    "entities/*/id": "experiment",
    "variables/*/id": "variable",
    "audience_conditions": "audience",
    "extension_id": "extension",
}
# What else a body needs, for the id under test to be allowed there.
BESIDE: dict[str, Json] = {
    "campaign_id": {"type": "personalization"},
    "entities/*/id": {"entities/*/kind": "Experiment"},
    "changes/*/extension_id": {"changes/*/type": "extension"},
    "metrics/*/metrics/*/event_id": {
        "metrics/*/aggregator": "ratio",
        "metrics/*/metrics/*/aggregator": "unique",
    },
}
# New variations get new ids whatever the body says, and a webhook is of the project that its address names.
IGNORED = {
    ("create_experiment", "variations/*/variation_id"),
    ("create_section", "variations/*/variation_id"),
    ("create_webhook", "project_id"),
    ("update_webhook", "project_id"),
}
# A new entity has no variations and experiences yet that its body could name: each id there is a foreign one.
NOT_YET = {
    ("create_experiment", "whitelist/*/variation_id"),
    ("create_campaign", "experiment_priorities/*/*"),
}
# Webhooks go on with the changes of earlier requests.
MOVES_BY_ITSELF = {"webhook_deliveries", "webhook_feeds", "webhook_lease"}
# They choose what is counted or listed among the account's own, so that a foreign id chooses nothing.
CHOOSING = {"attribute_id", "audience_id", "filter", "entity", "id"}


@dataclass
class Owned:
    """A project with one entity of each kind; those of others bear a name that must not show up."""

    headers: dict[str, str]
    ids: dict[str, int] = field(default_factory=dict)


def _made(app: GatewayTestApp, owned: Owned, name: str) -> Owned:
    """A project with all kinds of entities, each called `name`."""

    def post(path: str, query: str = "", **body: Any) -> Json:
        made: Json = app.post_json(f"/v2{path}{query}", body, headers=owned.headers).json
        return made

    ids = owned.ids
    ids["project"] = post("/projects", name=name)["id"]
    of_project = {"project_id": ids["project"]}
    named = {**of_project, "name": name}
    url = "https://shop.example/"
    ids["environment"] = post("/environments", key="qa", **named)["id"]
    ids["webhook"] = post(f"/projects/{ids['project']}/webhooks", name=name, url=url)["id"]
    ids["attribute"] = post("/attributes", key=name, **named)["id"]
    ids["audience"] = post("/audiences", **named)["id"]
    ids["page"] = post("/pages", edit_url=url, **named)["id"]
    ids["event"] = post(f"/projects/{ids['project']}/custom_events", key=name, name=name)["id"]
    click = {"name": name, "event_type": "click", "config": {"selector": "a"}}
    ids["click"] = post(f"/pages/{ids['page']}/events", **click)["id"]
    content = {"list_type": "cookies", "key_field": "city", "list_content": name}
    ids["list_attribute"] = post("/list_attributes", **named, **content)["id"]
    ids["extension"] = post("/extensions", edit_url=url, implementation={}, **named)["id"]
    variables = [{"key": "colour", "type": "string", "default_value": name}]
    feature = post("/features", **of_project, key=name, variables=variables)
    ids["feature"], ids["variable"] = feature["id"], feature["variables"][0]["id"]
    weights = [{"name": name, "weight": 5000}, {"name": "Other", "weight": 5000}]
    pages = {"page_ids": [ids["page"]]}
    experiment = post("/experiments", variations=weights, **pages, **named)
    ids["experiment"], ids["variation"] = experiment["id"], experiment["variations"][0]["variation_id"]
    ids["campaign"] = post("/campaigns", **pages, **named)["id"]
    of_campaign = {"type": "personalization", "campaign_id": ids["campaign"]}
    ids["experience"] = post("/experiments", **of_campaign, **named)["id"]
    ids["multivariate"] = post("/experiments", type="multivariate", **named)["id"]
    section = post(f"/experiments/{ids['multivariate']}/sections", variations=weights)
    ids["section"], ids["section_variation"] = section["id"], section["variations"][0]["variation_id"]
    ids["group"] = post("/groups", **named)["id"]
    asked = {"data_type": "visitor", "identifier": name, "identifier_type": "other", "request_type": "access"}
    ids["subject_access_request"] = post("/subject-access-requests", **asked)["id"]
    return owned


@pytest.fixture(scope="module")
def own(real_app: GatewayTestApp) -> Owned:
    return _made(real_app, Owned(AUTHORIZED), "own")


@pytest.fixture(scope="module")
def sibling(real_app: GatewayTestApp) -> Owned:
    """Another project of the same account."""
    return _made(real_app, Owned(AUTHORIZED), f"{HIDDEN}-in-a-sibling")


@pytest.fixture(scope="module")
def foreign(real_app: GatewayTestApp, real_stack: RealServices) -> Owned:
    """A project of another account."""
    owned = _made(real_app, Owned(OTHER), f"{HIDDEN}-in-another-account")
    owned.ids["account"] = real_stack.other_account_id
    return owned


@pytest.fixture
def nothing_is_stored(real_stack: RealServices) -> Iterator[None]:
    """No row of the databases of projects and experiments changes while the test runs."""
    # Whoever lists the history has the changes of projects and environments copied into it.
    query = {"project_id": real_stack.ids["project_id"]}
    url = real_stack.urls["experiments"] + "/changes"
    assert requests.get(url, params=query, headers=AS_GATEWAY, timeout=30).status_code == 200
    before = _everything(real_stack)
    yield
    assert _everything(real_stack) == before


def _everything(stack: RealServices) -> dict[str, list[Any]]:
    rows = {}
    for service in ("projects", "experiments"):
        with closing(sqlite3.connect(stack.folder / f"{service}.sqlite3")) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                if table in MOVES_BY_ITSELF:
                    continue
                rows[f"{service}.{table}"] = connection.execute(f'SELECT * FROM "{table}"').fetchall()
    return rows


# Parameters


def _kind(operation: Operation, name: str) -> str:
    """The kind of what a parameter or a member names; AssertionError for a name that is not known here."""
    for end, kind in KINDS.items():
        if name == end or name.endswith(f"/{end}"):
            return kind
    kind = name.rsplit("/", 1)[-1].removesuffix("_id")
    if kind == "variation" and "/sections" in operation.path:
        return "section_variation"
    if kind == "event" and "page_id" in operation.path and "{event_id}" in operation.path:
        return "click"
    if kind == "experiment" and "/sections" in operation.path:
        return "multivariate"
    return kind


def _names_an_entity(name: str) -> bool:
    last = name.rstrip("/*").rsplit("/", 1)[-1]
    is_id = last.endswith(("_id", "_ids")) and last not in NO_ENTITIES
    return is_id or any(name == end or name.endswith(f"/{end}") for end in KINDS)


PARAMETERS = [
    (operation, parameter["name"])
    for operation in CONTRACT.operations.values()
    for parameter in operation.spec["parameters"]
    if parameter["in"] in ("path", "query")
    if parameter["name"] in CHOOSING or _names_an_entity(parameter["name"])
]


def _ids_of_path(operation: Operation, ids: dict[str, int]) -> dict[str, Any]:
    names = [one["name"] for one in operation.spec["parameters"] if one["in"] == "path"]
    others = {"date": "2026-01-31", "catalog_id": 1, "recommender_id": 1, "visitor_id": "anybody"}
    return {name: ids[_kind(operation, name)] if name not in others else others[name] for name in names}


def _query_of(operation: Operation, ids: dict[str, int]) -> dict[str, Any]:
    """The parameters that the operation requires, about one's own."""
    required = [
        one["name"] for one in operation.spec["parameters"] if one["in"] == "query" and one.get("required")
    ]
    values = {"usage_date_from": "2026-01-01", "usage_date_to": "2026-01-31", "query": ""}
    return {name: values[name] if name in values else ids[_kind(operation, name)] for name in required}


def _value(operation: Operation, name: str, ids: dict[str, int]) -> Any:
    """What a query says of one's id of the kind that the parameter is about."""
    if name == "filter":
        return f"id:{ids['project']}"
    if name == "entity":
        return f"experiment:{ids['experiment']}"
    return ids["experiment"] if name == "id" else ids[_kind(operation, name)]


def _ask(
    app: GatewayTestApp, operation: Operation, path: dict[str, Any], query: dict[str, Any], body: Any = None
) -> Any:
    content = json.dumps(body).encode() if body is not None else b""
    address = operation.path.format(**path)
    if query:
        address += "?" + "&".join(f"{name}={value}" for name, value in query.items())
    headers = {**AUTHORIZED, **({"Content-Type": "application/json"} if content else {})}
    return app.request(address, method=operation.method, body=content, headers=headers, expect_errors=True)


@pytest.mark.parametrize(
    ("operation", "name"), PARAMETERS, ids=[f"{one.operation_id}-{name}" for one, name in PARAMETERS]
)
@pytest.mark.usefixtures("nothing_is_stored")
def test_403_or_404_for_a_parameter_that_names_something_of_another_account(
    real_app: GatewayTestApp,
    real_stack: RealServices,
    own: Owned,
    foreign: Owned,
    operation: Operation,
    name: str,
) -> None:
    own.ids["account"] = real_stack.account_id
    path, query = _ids_of_path(operation, own.ids), _query_of(operation, own.ids)
    (path if name in path else query)[name] = _value(operation, name, foreign.ids)
    if name == "attribute_id":
        query["attribute_value"] = "gold"
    body = _minimal(operation, own.ids) if _body_schema(operation) else None
    response = _ask(real_app, operation, path, query, body)
    assert HIDDEN not in response.text
    if name in CHOOSING:
        assert response.status_int in (200, 204, 400, 403, 404), response.text
        assert not (response.status_int == 200 and response.json and name in ("filter", "entity", "id"))
    else:
        allowed = (400,) if name == "baseline_variation_id" else (403, 404)
        assert response.status_int in allowed, response.text


CHILDREN = [
    (operation, name)
    for operation, name in PARAMETERS
    if operation.path.count("{") > 1
    and "{" + name + "}" in operation.path
    and "account_id" not in operation.path
    if not operation.path.startswith("/v2/recommendations")
]


@pytest.mark.parametrize(
    ("operation", "name"), CHILDREN, ids=[f"{one.operation_id}-{name}" for one, name in CHILDREN]
)
@pytest.mark.usefixtures("nothing_is_stored")
def test_404_for_an_address_that_leads_from_one_project_to_another(
    real_app: GatewayTestApp, own: Owned, sibling: Owned, operation: Operation, name: str
) -> None:
    path = {**_ids_of_path(operation, own.ids), name: sibling.ids[_kind(operation, name)]}
    body = _minimal(operation, own.ids) if _body_schema(operation) else None
    response = _ask(real_app, operation, path, {}, body)
    assert response.status_int == 404, response.text
    assert HIDDEN not in response.text


# Bodies


def _body_schema(operation: Operation) -> str:
    references = [one["schema"]["$ref"] for one in operation.spec["parameters"] if one["in"] == "body"]
    return references[0].rsplit("/", 1)[1] if references else ""


def _resolved(schema: Json, definitions: Json) -> Json:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _is_scalar(schema: Json) -> bool:
    return not {"integer", "string"}.isdisjoint(
        [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", ())
    )


def _members(schema: Json, definitions: Json, place: str = "", within: tuple[str, ...] = ()) -> Iterator[str]:
    """The places of a body that name entities, as `metrics/*/event_id`."""
    if (reference := schema.get("$ref", "")) in within and reference:
        return
    within = (*within, reference) if reference else within
    schema = _resolved(schema, definitions)
    if place and _names_an_entity(place) and _is_scalar(schema):
        yield place
    for name, part in schema.get("properties", {}).items():
        yield from _members(part, definitions, f"{place}/{name}".lstrip("/"), within)
    if "items" in schema:
        yield from _members(schema["items"], definitions, f"{place}/*", within)


MEMBERS = [
    (operation, place)
    for operation in CONTRACT.operations.values()
    if (definition := _body_schema(operation))
    for place in _members(writable(definition), writable(definition)["definitions"])
]


def _minimal(operation: Operation, ids: dict[str, int], *places: tuple[str, Any]) -> Json:
    """The smallest body that the contract allows, with these values at their places."""
    schema = writable(_body_schema(operation))
    body: Json = _smallest(operation, schema, schema["definitions"], "", ids, dict(places))
    return body


def _smallest(
    operation: Operation, schema: Json, definitions: Json, place: str, ids: dict[str, int], values: Json
) -> Any:
    if place in values:
        return values[place]
    schema = _resolved(schema, definitions)
    if place and _names_an_entity(place) and _is_scalar(schema):
        return _text_or_id(place, ids[_kind(operation, place)])
    if "properties" in schema:
        wanted = {one for one in schema["properties"] if _leads_to(f"{place}/{one}".lstrip("/"), values)}
        return {
            name: _smallest(
                operation, schema["properties"][name], definitions, f"{place}/{name}".lstrip("/"), ids, values
            )
            for name in sorted({*schema.get("required", ()), *wanted})
        }
    if "items" in schema:
        return [_smallest(operation, schema["items"], definitions, f"{place}/*", ids, values)]
    return 10_000 if place.endswith("/weight") else schema.get("example", schema.get("enum", ["x"])[0])


def _leads_to(place: str, values: Json) -> bool:
    return any(one == place or one.startswith(f"{place}/") for one in values)


def _text_or_id(place: str, entity_id: int) -> Any:
    if place.endswith("audience_conditions"):
        return json.dumps(["or", {"audience_id": entity_id}])
    return str(entity_id) if place.endswith("extension_id") else entity_id


def _with(operation: Operation, place: str, own: Owned, named: Owned) -> Json:
    """A body that is right if the id at the place is."""
    values = {place: _text_or_id(place, named.ids[_kind(operation, place)])}
    for end, others in BESIDE.items():
        if place.endswith(end):
            values |= {place.removesuffix(end) + other: value for other, value in others.items()}
    if "/actions/*/changes/" in place:
        values["variations/*/actions/*/page_id"] = own.ids["page"]
    if "Webhooks" in operation.spec["tags"]:
        values["url"] = "https://hooks.shop.example/"
    body = _minimal(operation, own.ids, *values.items())
    if "/sections" in operation.path and "variations" in body:
        variations = [*body["variations"], {"name": "Other"}]  # a section has two at least
        body["variations"] = [{**one, "weight": 5000} for one in variations]
    return body


@pytest.fixture
def renewed(real_app: GatewayTestApp, own: Owned) -> Owned:
    """One's own, with the variations and the group that the tests before have left."""

    def variation(path: str) -> int:
        found: int = real_app.get(path, headers=AUTHORIZED).json["variations"][0]["variation_id"]
        return found

    experiment, ids = f"/v2/experiments/{own.ids['experiment']}", own.ids
    ids["variation"] = variation(experiment)
    ids["section_variation"] = variation(f"/v2/experiments/{ids['multivariate']}/sections/{ids['section']}")
    for group in real_app.get(f"/v2/groups?project_id={ids['project']}", headers=AUTHORIZED).json:
        body = {"entities": []}
        real_app.patch_json(f"/v2/groups/{group['id']}", body, headers=AUTHORIZED)
    return own


@pytest.mark.parametrize(
    ("operation", "place"), MEMBERS, ids=[f"{one.operation_id}-{place}" for one, place in MEMBERS]
)
def test_400_403_or_404_for_a_body_that_names_something_foreign(
    real_app: GatewayTestApp,
    real_stack: RealServices,
    renewed: Owned,
    sibling: Owned,
    foreign: Owned,
    operation: Operation,
    place: str,
) -> None:
    path = _ids_of_path(operation, renewed.ids)
    before = _everything(real_stack)
    is_ignored = (operation.operation_id, place) in IGNORED
    for named in (foreign, sibling):
        if named is sibling and place == "project_id":
            continue  # it is the account's own
        response = _ask(real_app, operation, path, {}, _with(operation, place, renewed, named))
        assert response.status_int in ((200, 201) if is_ignored else (400, 403, 404)), response.text
        assert HIDDEN not in response.text
        if is_ignored:
            assert str(named.ids[_kind(operation, place)]) not in response.text
    if is_ignored:
        return
    assert _everything(real_stack) == before
    if (operation.operation_id, place) not in NOT_YET:  # the refusal was for the id
        response = _ask(real_app, operation, path, {}, _with(operation, place, renewed, renewed))
        assert response.status_int in (200, 201), response.text
