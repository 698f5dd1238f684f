"""Which requests matter more to an overloaded worker."""

import pytest

from optimizely_api.contract import load
from optimizely_api.gateway.admission import KnownAccounts, RequestClasses
from optimizely_api.serving.line import ALWAYS, BULK, EVENTS, ORDINARY, PEOPLE

TOKEN, ACCOUNT = "Bearer 2:known", 7


@pytest.fixture(scope="module")
def classes():
    accounts = KnownAccounts(10)
    accounts.keep(TOKEN, ACCOUNT)
    return RequestClasses(load(), accounts)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v2/experiments/1", PEOPLE),
        ("HEAD", "/v2/experiments/1", PEOPLE),
        ("PATCH", "/v2/experiments/1", PEOPLE),
        ("POST", "/v2/experiments", PEOPLE),
        ("DELETE", "/v2/projects/1/custom_events/2", PEOPLE),
        ("GET", "/v2/experiments/1/sections/2", PEOPLE),
        ("GET", "/v2/experiments", ORDINARY),
        ("GET", "/v2/experiments/1/sections", ORDINARY),
        ("GET", "/v2/experiments/1/results", ORDINARY),
        ("GET", "/v2/campaigns/1/results", ORDINARY),
        ("GET", "/v2/export/experiments/1/results/csv", ORDINARY),
        ("GET", "/v2/search", ORDINARY),
        ("GET", "/v2/me", BULK),
        ("GET", "/v2/experiments/1/report", BULK),
        ("GET", "/v2/nothing", BULK),
        ("GET", "/v2/", BULK),
        ("GET", "/v2/" + "a/" * 100, BULK),
    ],
)
def test_the_contract_says_what_a_known_token_asks_for(classes, method, path, kind):
    assert classes(method.encode(), path.encode(), TOKEN.encode()) == (kind, ACCOUNT)


@pytest.mark.parametrize(
    "operation", load().operations.values(), ids=lambda operation: operation.operation_id
)
def test_every_operation_has_a_class(classes, operation):
    path = operation.path.replace("{", "").replace("}", "")
    kind, account = classes(operation.method.encode(), path.encode(), TOKEN.encode())
    is_alpha = operation.spec.get("x-release-state") == "alpha"
    assert account == ACCOUNT
    assert (kind == BULK) == is_alpha
    if operation.method != "GET":
        assert kind == PEOPLE


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_always_served(classes, path):
    assert classes(b"GET", path.encode(), None) == (ALWAYS, 0)


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_batches_of_events_and_browsers_questions_before_them_come_first(classes, method):
    assert classes(method.encode(), b"/v1/events", None) == (EVENTS, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/datafiles/a.json"),
        ("GET", "/docs"),
        ("GET", "/x/healthz"),
        ("GET", "/v2/me"),
    ],
)
def test_what_has_no_token_is_bulk_of_no_account(classes, method, path):
    assert classes(method.encode(), path.encode(), None) == (BULK, 0)


def test_unknown_tokens_are_bulk_and_together_one_account_that_is_nobodys(classes):
    found = {classes(b"GET", b"/v2/experiments/1", f"Bearer {number}".encode()) for number in range(3)}
    ((kind, account),) = found
    assert kind == BULK
    assert account < 0


def test_preflights_are_ordinary(classes):
    assert classes(b"OPTIONS", b"/v2/experiments/1", None) == (ORDINARY, 0)


def test_the_oldest_of_too_many_accounts_is_forgotten_and_no_token_is_held():
    accounts = KnownAccounts(2)
    for number in (1, 2, 3):
        accounts.keep(f"Bearer secret-{number}", number)
    assert [accounts.get(f"Bearer secret-{number}".encode()) for number in (1, 2, 3)] == [None, 2, 3]
    assert "secret" not in repr(vars(accounts))
