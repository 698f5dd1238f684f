"""Every error that the contract declares, for every operation, provoked: a valid Error with its declared status."""

import jsonschema
import pytest

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error

CONTRACT = load()
OWN = {
    "project_id": samples.PROJECT,
    "campaign_id": samples.LAYER,
    "experiment_id": samples.EXPERIMENT,
    "event_id": samples.EVENT,
}
OTHERS = {
    "project_id": samples.OTHER_PROJECT,
    "campaign_id": samples.OTHER_LAYER,
    "experiment_id": samples.OTHER_EXPERIMENT,
    "event_id": samples.OTHER_EVENT,
}
UNKNOWN = dict.fromkeys(OWN, 99)
CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    502: "bad_upstream_answer",
    503: "upstream_unavailable",
    504: "upstream_timeout",
}
DECLARED = [
    (operation.operation_id, int(status))
    for operation in CONTRACT.operations.values()
    for status in operation.spec["responses"]
    if status.isdigit() and int(status) >= 400
]


def path(operation, ids):
    """The operation's address about the given entities, with the query parameters that name them."""
    named = [parameter["name"] for parameter in operation.spec["parameters"] if parameter["in"] == "query"]
    query = "&".join(f"{name}={ids[name]}" for name in named if name in ids)
    return operation.path.format(**ids) + (f"?{query}" if query else "")


def spoiled(operation):
    """The operation's address with one parameter that is not of its type."""
    name = next(p["name"] for p in operation.spec["parameters"] if p.get("type") == "integer")
    return path(operation, {**OWN, name: "x"}) if name in OWN else f"{path(operation, OWN)}?{name}=x"


def upstream(operation):
    """The service that knows what the operation is about."""
    return "projects" if operation.operation_id.endswith(("project", "projects")) else "experiments"


def ask(app, operation, status, services):
    if status == 401:
        return app.get(path(operation, OWN), expect_errors=True)
    if status == 502:
        services.manners[upstream(operation)].body = b"[]"
    if status == 503:
        services.close(upstream(operation))
    if status == 504:
        services.manners[upstream(operation)].hang = True
    asked = {400: spoiled(operation), 403: path(operation, OTHERS), 404: path(operation, UNKNOWN)}
    return app.get(asked.get(status, path(operation, OWN)), headers=AUTHORIZED, expect_errors=True)


@pytest.fixture(scope="module")
def app(running_services):
    limits = {f"{name}_timeout_seconds": "0.3" for name in running_services.ports}
    with GatewayTestApp(
        main({}, **running_services.settings(), **limits, identity_cache_seconds="600")
    ) as opened:
        running_services.reset()
        opened.get("/v2/projects", headers=AUTHORIZED)  # the token is known from now on
        yield opened


@pytest.mark.parametrize(
    ("operation_id", "status"), DECLARED, ids=[f"{name}-{code}" for name, code in DECLARED]
)
def test_a_declared_error_is_what_it_is_declared_to_be(app, services, operation_id, status):
    operation = CONTRACT.operations[operation_id]
    response = ask(app, operation, status, services)
    body = assert_error(response, status, CODES[status])
    schema = {
        **operation.spec["responses"][str(status)]["schema"],
        "definitions": CONTRACT.document["definitions"],
    }
    jsonschema.validate(body, schema)


@pytest.mark.parametrize("operation", CONTRACT.operations.values(), ids=list(CONTRACT.operations))
def test_every_operation_declares_what_its_callers_will_meet(operation):
    assert {"400", "401", "502", "503", "504", "default"} <= set(operation.spec["responses"])


@pytest.mark.parametrize("operation", CONTRACT.operations.values(), ids=list(CONTRACT.operations))
def test_200_for_the_accounts_own(app, services, operation):
    assert app.get(path(operation, OWN), headers=AUTHORIZED).status_int == 200
