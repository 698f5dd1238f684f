"""Every error that the contract declares, for every operation, provoked: a valid Error with its declared status."""

import json
from contextlib import contextmanager

import pytest
from jsonschema import Draft4Validator

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.contract.definitions import example
from optimizely_api.gateway.resource import Resource
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error

CONTRACT = load()
OWN = {
    "account_id": samples.ACCOUNT,
    "project_id": samples.PROJECT,
    "campaign_id": samples.LAYER,
    "experiment_id": samples.EXPERIMENT,
    "event_id": samples.EVENT,
}
OTHERS = {
    "account_id": samples.OTHER_ACCOUNT,
    "project_id": samples.OTHER_PROJECT,
    "campaign_id": samples.OTHER_LAYER,
    "experiment_id": samples.OTHER_EXPERIMENT,
    "event_id": samples.OTHER_EVENT,
}
IN_PROJECTS = {"Projects", "Environments", "Webhooks", "Subject Access Requests", "Collaborators"}
# Required parameters that are no ids.
VALUES = {"usage_date_from": "2026-01-01", "usage_date_to": "2026-01-31", "date": "2026-01-31"}
# They ask no service themselves; who the token belongs to is all that a service tells them.
ASK_NO_SERVICE = {
    "get_me",
    "get_enriched_events_export_credentials",
    *("get_recs_catalog_csv", "get_recs_stats_csv", "get_recs_output_csv"),
}
# Their success needs what the tests cannot set up: there is no store to export to.
WITHOUT_SUCCESS = {"get_enriched_events_export_credentials"}
# What they are about is of the token's account: their 403 is for users whose roles do not suffice.
FOR_ROLES = {
    *("create_project", "get_plan", "list_sar_requests_by_account", "create_sar_request"),
    *("get_recs_catalog_csv", "get_recs_stats_csv", "get_recs_output_csv"),
}
USERS_TOKEN = "2:token-of-a-user-without-a-role"
NEVER_MET = {
    ("list_sar_requests_by_account", 404)
}  # declared in the public contract; there is nothing to name
CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "gone",
    412: "precondition_failed",
    413: "request_too_large",
    415: "unsupported_media_type",
    500: "internal_error",
    502: "bad_upstream_answer",
    503: "upstream_unavailable",
    504: "upstream_timeout",
}
# What a request says to be answered so.
HEADERS = {
    412: {"If-Match": '"of another version"'},
    415: {"Content-Type": "text/xml"},
    504: {"X-Request-Timeout-Ms": "300"},
}
DECLARED = [
    (operation.operation_id, int(status))
    for operation in CONTRACT.operations.values()
    for status in operation.spec["responses"]
    if status.isdigit() and int(status) >= 400 and (operation.operation_id, int(status)) not in NEVER_MET
]


def ids_of(operation, known, otherwise):
    """{parameter: id} for every parameter of the operation that names an entity."""
    parameters = operation.spec["parameters"]
    names = [p["name"] for p in parameters if p.get("required") or p["name"] in known]
    return {name: known.get(name, otherwise) for name in names if name.endswith("_id")}


def own(operation):
    ids = ids_of(operation, OWN, samples.ENTITY)
    return {**ids, "event_id": samples.CLICK} if {"event_id", "page_id"} <= ids.keys() else ids


def others(operation):
    return ids_of(operation, OTHERS, samples.OTHER_ENTITY)


def archived(operation):
    """The operation's own entity is in the archive; what its address names besides is not."""
    ids = own(operation)
    if "event_id" in ids:
        return {**ids, "event_id": samples.ARCHIVED_CLICK if "page_id" in ids else samples.ARCHIVED_EVENT}
    return {**ids, **dict.fromkeys(list(ids)[-1:], samples.ARCHIVED_ENTITY)}


def in_the_way(operation):
    """What a change meets that the entity's state does not allow."""
    if operation.method == "PATCH":
        return archived(operation)
    if operation.method == "POST":
        return own(operation)  # its service says so
    ids = own(operation)
    return {**ids, **dict.fromkeys(list(ids)[-1:], samples.ENTITY_IN_USE)}


def unknown(operation):
    return dict.fromkeys(own(operation), 99)


def path(operation, ids):
    """The operation's address about the given entities, with the query parameters that name them."""
    # Others, such as `attribute_id` of results, choose what is counted.
    named = [
        p["name"]
        for p in operation.spec["parameters"]
        if p["in"] == "query" and (p.get("required") or p["name"] in OWN)
    ]
    known = {**VALUES, **ids}
    query = "&".join(f"{name}={known[name]}" for name in named if name in known)
    query += "".join(f"&{p['name']}" for p in operation.spec["parameters"] if p.get("allowEmptyValue"))
    return operation.path.format(**known) + (f"?{query}" if query else "")


def body(operation, ids):
    """A body of the contract's examples, about the given project; None for an operation without a body."""
    schemas = [p["schema"]["$ref"] for p in operation.spec["parameters"] if p["in"] == "body"]
    if not schemas:
        return None
    content = example(schemas[0].rsplit("/", 1)[1])
    return {**content, **{name: value for name, value in ids.items() if name in content}}


def has_body(operation):
    return any(parameter["in"] == "body" for parameter in operation.spec["parameters"])


def upstream(operation):
    """The service that knows what the operation is about."""
    is_of_projects = operation.operation_id in ASK_NO_SERVICE or IN_PROJECTS.intersection(
        operation.spec["tags"]
    )
    return "projects" if is_of_projects else "experiments"


def ask(app, operation, ids, *, content=None, path_ids=None, **headers):
    """Send the operation's request about these entities."""
    content = content if content is not None else body(operation, {"project_id": samples.PROJECT, **ids})
    if content is not None and not isinstance(content, bytes):
        content = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", **headers} if content is not None else headers
    return app.request(
        path(operation, ids),
        method=operation.method,
        body=content or b"",
        headers=headers,
        expect_errors=True,
    )


def misshapen(app, operation):
    """Ask with a body, or a parameter, that is not of its type; without any, with a query that is no text."""
    ids = own(operation)
    if has_body(operation):
        return ask(app, operation, ids, content=[], **AUTHORIZED)
    names = (p["name"] for p in operation.spec["parameters"] if p.get("type") == "integer")
    if (name := next(names, None)) is None:
        return app.get(f"{path(operation, ids)}?x=%FF", headers=AUTHORIZED, expect_errors=True)
    if name in ids:
        return ask(app, operation, {**ids, name: "x"}, **AUTHORIZED)
    return app.get(f"{path(operation, ids)}?{name}=x", headers=AUTHORIZED, expect_errors=True)


def new_token(operation, status, services):
    """A token of the account that the gateway does not know yet."""
    token = f"2:new token of {operation.operation_id} {status}"
    services.tokens[token] = samples.ACCOUNT
    return {"Authorization": f"Bearer {token}"}


def break_upstream(operation, status, services):
    if status == 502:
        services.manners[upstream(operation)].body = b"[]"
    if status == 503:
        services.close(upstream(operation))
    if status == 504:
        services.manners[upstream(operation)].hang = True
    if status == 409 and operation.method != "PATCH":
        services.manners[upstream(operation)].conflicts = True


def provoke(app, operation, status, services, monkeypatch):
    """Send a request that is answered with the status."""
    if status == 500:
        monkeypatch.setattr(Resource, "visible", None)  # a defect
    ids, headers = own(operation), HEADERS.get(status, {})
    break_upstream(operation, status, services)
    if status == 403 and operation.operation_id in FOR_ROLES:
        services.tokens[USERS_TOKEN], services.users[USERS_TOKEN] = (
            samples.ACCOUNT,
            samples.user(),
        )
        return ask(app, operation, ids, Authorization=f"Bearer {USERS_TOKEN}")
    if status == 400:
        return misshapen(app, operation)
    if status == 401:
        return ask(app, operation, ids)
    if operation.operation_id in ASK_NO_SERVICE:
        if status == 403:
            return ask(app, operation, ids, Authorization=f"Bearer {samples.OTHER_TOKEN}")
        if status >= 500:
            return ask(app, operation, ids, **new_token(operation, status, services), **headers)
    asked = {
        403: others(operation) or OTHERS,
        404: unknown(operation),
        409: in_the_way(operation),
        410: archived(operation),
    }
    content = b" " * (1024 * 1024 + 1) if status == 413 else None
    return ask(app, operation, asked.get(status, ids), content=content, **AUTHORIZED, **headers)


@contextmanager
def forgetful_gateway(running_services, folder):
    """A gateway that keeps nothing but the token, and has files of a recommender."""
    for place in ("catalog", "stats", f"recommenders/{samples.ENTITY}"):
        (folder / f"{samples.ACCOUNT}/{samples.ENTITY}" / place).mkdir(parents=True)
        (folder / f"{samples.ACCOUNT}/{samples.ENTITY}" / place / "2026-01-31.csv").write_text("item\n")
    settings = {
        **running_services.settings(),
        "definition_cache_seconds": "0",
        "identity_cache_seconds": "600",
        "retry_tokens": "1000",  # many tests break connections, and each is to learn how the service is now
        "recommendations_folder": str(folder),
    }
    with GatewayTestApp(main({}, **settings)) as opened:
        running_services.reset()
        opened.get("/v2/projects", headers=AUTHORIZED)  # the token is known from now on
        yield opened


@pytest.fixture(scope="module")
def app(running_services, tmp_path_factory):
    with forgetful_gateway(running_services, tmp_path_factory.mktemp("recommendations")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("operation_id", "status"), DECLARED, ids=[f"{name}-{code}" for name, code in DECLARED]
)
def test_a_declared_error_is_what_it_is_declared_to_be(app, services, monkeypatch, operation_id, status):
    operation = CONTRACT.operations[operation_id]
    response = provoke(app, operation, status, services, monkeypatch)
    body = assert_error(response, status, CODES[status])
    schema = {
        **operation.spec["responses"][str(status)]["schema"],
        "definitions": CONTRACT.document["definitions"],
    }
    Draft4Validator(schema).validate(body)  # `load` has checked the schemas


@pytest.mark.parametrize("operation", CONTRACT.operations.values(), ids=list(CONTRACT.operations))
def test_every_operation_declares_what_its_callers_will_meet(operation):
    assert {"400", "401", "502", "503", "504", "default"} <= set(operation.spec["responses"])


@pytest.mark.parametrize("operation_id", sorted(CONTRACT.operations.keys() - WITHOUT_SUCCESS))
def test_success_for_the_accounts_own(app, services, operation_id):
    operation = CONTRACT.operations[operation_id]
    success = next(int(status) for status in operation.spec["responses"] if status < "300")
    assert ask(app, operation, own(operation), **AUTHORIZED).status_int == success
