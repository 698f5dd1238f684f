"""Roles: what a token may do that acts as a user of the account."""

from collections.abc import Iterator
from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.contract.definitions import example
from optimizely_api.runtime.testing import GatewayTestApp
from tests.gateway.test_declared_errors import ask, body, own
from tests.support import samples
from tests.support.asserting import assert_error
from tests.support.serving import KEEPS_NOTHING

CONTRACT = load()
TOKEN = "2:token-of-a-user"
AS_USER = {"Authorization": f"Bearer {TOKEN}"}
ROLES = (
    *("", "viewer", "restricted_editor", "editor", "restricted_publisher", "publisher"),
    *("project_owner", "administrator"),
)
ALL = ("list", "create", "update", "delete")
# Who may write what, as the documentation has it. Reading is for all roles, but for what only administrators may.
WRITES = {
    "restricted_editor": {
        *(f"{verb}_{noun}" for verb in ALL[1:] for noun in ("page", "attribute", "feature", "section")),
        *(f"{verb}_{noun}" for verb in ALL[1:] for noun in ("custom_event", "in_page_event")),
        *("create_audience", "update_audience"),
        *("create_list_attribute", "update_list_attribute", "archive_list_attribute"),
        *("create_experiment", "update_experiment", "create_campaign", "update_campaign"),
    },
    "restricted_publisher": {"delete_experiment", "delete_campaign"},
    "project_owner": {
        *("create_project", "update_project"),
        *(f"{verb}_{noun}" for verb in ALL[1:] for noun in ("environment", "extension", "group", "webhook")),
    },
}
OF_ADMINISTRATORS = {
    *("get_plan", "get_impressions_usage_request", "get_impressions_usage_summary_request"),
    *("list_sar_requests_by_account", "create_sar_request", "get_sar_request", "get_sar_export"),
    *("get_enriched_events_export_credentials", "list_collaborators", "get_bucketing_history"),
}
OF_EVERYBODY = {"list_projects", "get_me"}  # also without a role


@pytest.fixture(scope="module")
def gateway_of_users(running_services: Any) -> Iterator[GatewayTestApp]:
    with GatewayTestApp(main({}, **running_services.settings(), **KEEPS_NOTHING)) as app:
        yield app


@pytest.fixture
def app(gateway_of_users: GatewayTestApp, services: Any) -> GatewayTestApp:
    services.tokens[TOKEN] = samples.ACCOUNT
    for kind in (services.experiments, services.layers):
        for entity in kind.values():
            entity["status"] = "paused"
    return gateway_of_users


def become(services: Any, role: str) -> None:
    services.users[TOKEN] = samples.user(role)


def may(operation_id: str, role: str) -> bool:
    if operation_id in OF_ADMINISTRATORS:
        return False  # a role in a project makes nobody an administrator of the account
    if operation_id in OF_EVERYBODY:
        return True
    least = next((least for least, names in WRITES.items() if operation_id in names), "viewer")
    return ROLES.index(role) >= ROLES.index(least)


def plain(operation: Any) -> Any:
    """The operation's body, without what takes more than its least role."""
    content = body(operation, {"project_id": samples.PROJECT, **own(operation)})
    if "section" in operation.operation_id:
        return content and {**content, "variations": [{"key": key, "weight": 5000} for key in ("a", "b")]}
    apart = ("changes", "variations", "environments")
    return content and {name: value for name, value in content.items() if name not in apart}


def is_denied(response: Any) -> bool:
    """Whether it is the role that is missing."""
    said = response.json["message"] if response.status_int == 403 else ""
    return said.startswith(("The token's user", "This is for administrators"))


@pytest.mark.parametrize("operation_id", CONTRACT.operations)
def test_403_exactly_for_roles_that_may_not(app: Any, services: Any, operation_id: str) -> None:
    operation = CONTRACT.operations[operation_id]
    denied = []
    for role in ROLES:
        become(services, role)
        if is_denied(ask(app, operation, own(operation), content=plain(operation), **AS_USER)):
            denied.append(role)
    assert denied == [role for role in ROLES if not may(operation_id, role)]


def test_every_write_is_in_the_table() -> None:
    writes = {name for name, operation in CONTRACT.operations.items() if operation.method != "GET"}
    assert writes == set().union(*WRITES.values()) | (OF_ADMINISTRATORS & writes)


@pytest.mark.parametrize("operation_id", sorted(OF_ADMINISTRATORS))
def test_an_administrator_of_the_account_may_do_everything(
    app: Any, services: Any, operation_id: str
) -> None:
    operation = CONTRACT.operations[operation_id]
    services.users[TOKEN] = samples.user(is_administrator=True)
    assert not is_denied(ask(app, operation, own(operation), **AS_USER))


def send(app: Any, operation_id: str, content: Any, query: str = "") -> Any:
    operation = CONTRACT.operations[operation_id]
    address = operation.path.format(**own(operation)) + query
    call = {"POST": app.post_json, "PATCH": app.patch_json}[operation.method]
    return call(address, content, headers=AS_USER, expect_errors=True)


def environment(services: Any, *, restricted: bool) -> None:
    """The project has one environment, its primary one, restricted to publishers or not."""
    members = {"is_primary": True, "has_restricted_permissions": restricted, "key": "production"}
    entity = samples.entity("Environment", **members)
    services.kinds["environments"] = {entity["id"]: entity}


@pytest.mark.parametrize("restricted", [True, False], ids=["restricted", "open"])
@pytest.mark.parametrize("action", ["start", "pause", "resume", "publish"])
def test_403_for_an_editor_who_starts_what_a_publisher_may(
    app: Any, services: Any, action: str, restricted: bool
) -> None:
    environment(services, restricted=restricted)
    for role, denied in (("editor", restricted), ("restricted_publisher", False)):
        become(services, role)
        for operation_id in ("update_experiment", "update_campaign"):
            assert is_denied(send(app, operation_id, {}, f"?action={action}")) is denied


def test_403_for_an_editor_who_changes_what_runs(app: Any, services: Any) -> None:
    environment(services, restricted=True)
    become(services, "editor")
    for operation_id in ("update_experiment", "update_campaign"):
        assert not is_denied(send(app, operation_id, {"description": "New"}))
        assert not is_denied(send(app, operation_id, {}, ""))
    for entity in (services.experiments[samples.EXPERIMENT], services.layers[samples.LAYER]):
        entity["status"] = "running"
    for operation_id in ("update_experiment", "update_campaign", "update_section", "create_section"):
        content = (
            {**example("Section"), "description": "New"}
            if "section" in operation_id
            else {"description": "New"}
        )
        assert_error(send(app, operation_id, content), 403, "forbidden", "this takes a restricted_publisher")


def test_403_for_an_editor_who_unarchives(app: Any, services: Any) -> None:
    environment(services, restricted=False)
    become(services, "editor")
    assert is_denied(send(app, "update_experiment", {}, "?action=unarchive"))


@pytest.mark.parametrize("key", ["production", "staging"])
def test_403_for_an_editor_in_a_restricted_environment(app: Any, services: Any, key: str) -> None:
    environment(services, restricted=True)
    staging = samples.entity("Environment", samples.ENTITY_IN_USE, key="staging", is_primary=False)
    services.kinds["environments"][staging["id"]] = {**staging, "has_restricted_permissions": False}
    services.projects[samples.PROJECT]["platform"] = "custom"
    become(services, "editor")
    rule = {"audience_conditions": "everyone", "enabled": True, "percentage_included": 10000}
    rollout = {"environments": {key: {"rollout_rules": [rule]}}}
    statuses = {"environments": {key: {"status": "running"}}}
    services.kinds["features"] = {samples.ENTITY: samples.entity("Feature", environments={})}
    denied = [
        is_denied(send(app, "update_feature", rollout)),
        is_denied(send(app, "update_experiment", statuses)),
    ]
    assert denied == [key == "production"] * 2


def test_403_for_a_restricted_role_whose_changes_are_no_extensions(app: Any, services: Any) -> None:
    def with_change(kind: str) -> dict[str, Any]:
        change = {"type": kind, "value": "1", "extension_id": "7001", "config": {}}
        actions = [{"page_id": samples.ENTITY, "changes": [change]}]
        return {"variations": [{"name": "A", "weight": 10000, "actions": actions}]}

    for role, denied in (
        ("restricted_editor", True),
        ("editor", False),
        ("restricted_publisher", True),
        ("publisher", False),
    ):
        become(services, role)
        assert is_denied(send(app, "update_experiment", with_change("custom_code"))) is denied
        assert not is_denied(send(app, "update_experiment", with_change("extension")))
