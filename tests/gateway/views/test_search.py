"""Search: entities of all kinds in one list."""

from itertools import count
from typing import Any

import pytest

from optimizely_api.runtime.testing import GatewayTestApp
from tests.gateway.views.test_changes import service
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import OTHER
from tests.support.real_services import ADDRESS, RealServices

Json = dict[str, Any]
NUMBERS = count(1)


@pytest.fixture
def word() -> str:
    """A word that only what the test makes has in its name."""
    return f"Quux{next(NUMBERS)}x"


@pytest.fixture
def made(
    real_app: GatewayTestApp, real_stack: RealServices, ids: dict[str, int], word: str
) -> dict[str, Json]:
    """A page, an event, a campaign and an experiment, in this order."""
    owner = {"account_id": real_stack.account_id, "project_id": ids["project_id"]}
    audience_id = real_app.post_json(
        "/v2/audiences",
        {"project_id": ids["project_id"], "name": f"Shoppers {next(NUMBERS)}"},
        headers=AUTHORIZED,
        expect_errors=True,  # 501 as long as there are no audiences
    ).json.get("id", 77)
    page = {
        "project_id": ids["project_id"],
        "name": f"{word} page",
        "edit_url": "https://shop.example/?hidden",
    }
    event = {"key": f"{word}_event", "description": "Checked"}
    variations = [{"key": key, "name": key, "weight": 5000} for key in ("a", "b")]
    campaign = service(
        real_stack, "POST", "/layers", **owner, name=f"{word} campaign", type="personalization"
    )
    return {
        "page": real_app.post_json("/v2/pages", page, headers=AUTHORIZED).json,
        "event": real_app.post_json(
            f"/v2/projects/{ids['project_id']}/custom_events", event, headers=AUTHORIZED
        ).json,
        "campaign": campaign,
        "experiment": service(
            real_stack,
            "POST",
            "/experiments",
            **owner,
            name=f"{word} experiment",
            key=f"{word}_e",
            url_targeting=ADDRESS,
            variations=variations,
            metrics=[{"aggregator": "unique", "event_id": ids["event_id"], "scope": "visitor"}],
            audience_conditions=f'["and", {{"audience_id": {audience_id}}}]',
            environments={"production": {"is_primary": True}},
        ),
    }


def found(app: GatewayTestApp, query: str) -> list[Json]:
    results: list[Json] = app.get(f"/v2/search?per_page=100&{query}", headers=AUTHORIZED).json
    return results


def kinds(app: GatewayTestApp, query: str) -> list[str]:
    return [result["type"] for result in found(app, query)]


def test_every_kind_is_found_by_a_word_of_its_name(
    real_app: GatewayTestApp, made: dict[str, Json], word: str
) -> None:
    results = {result["type"]: result for result in found(real_app, f"query={word.lower()}")}
    assert results.keys() == {"page", "event", "campaign", "experiment"}
    for kind, result in results.items():
        assert result["id"] == made[kind]["id"]
        assert result["project_id"] == made[kind]["project_id"]
        assert result["archived"] is False
    assert results["event"]["name"] == results["event"]["key"] == f"{word}_event"
    assert results["campaign"]["campaign_type"] == "personalization"
    assert results["experiment"]["experiment_type"] == "a/b"
    assert results["experiment"]["status"] == "not_started"
    (audience_id,) = results["experiment"]["audience_ids"]
    assert audience_id == 77 or audience_id > 10**9
    assert "account_id" not in results["page"]


def test_every_word_must_occur_or_be_the_id(
    real_app: GatewayTestApp, made: dict[str, Json], word: str
) -> None:
    assert kinds(real_app, f"query={word}+page") == ["page"]
    assert kinds(real_app, f"query={word}+{made['event']['id']}") == ["event"]
    assert kinds(real_app, f"query={word}+nothing") == []
    assert kinds(real_app, "query=%25") == []  # no wildcard


def test_fullsearch_looks_into_the_rest(real_app: GatewayTestApp, made: dict[str, Json], word: str) -> None:
    assert kinds(real_app, f"query={word}+hidden") == []
    assert kinds(real_app, f"query={word}+hidden&fullsearch=true") == ["page"]


@pytest.mark.parametrize("query", ["query=", "query"])
def test_an_empty_query_finds_everything_last_changed_first(
    real_app: GatewayTestApp, made: dict[str, Json], query: str
) -> None:
    assert found(real_app, query)[0]["id"] == made["experiment"]["id"]


def test_400_without_a_query(real_app: GatewayTestApp) -> None:
    response = real_app.get("/v2/search", headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/query/query"]


def test_filters(
    real_app: GatewayTestApp, real_stack: RealServices, ids: dict[str, int], made: dict[str, Json], word: str
) -> None:
    for action in ("start", "pause"):
        service(real_stack, "PATCH", f"/layers/{made['campaign']['id']}?action={action}")
    (audience_id,) = found(real_app, f"query={word}&type=experiment")[0]["audience_ids"]
    for query, expected in (
        ("type=page&type=event", {"page", "event"}),
        ("type=flag", set()),
        ("type_expand=a/b", {"experiment"}),
        ("type_expand=a/b&type_expand=personalization", {"experiment", "campaign"}),
        ("status=not_started", {"experiment"}),
        ("status=not_started&status=paused", {"experiment", "campaign"}),
        (f"audience_id={audience_id}&audience_id=1", {"experiment"}),
        (f"audience_id={audience_id // 10}", set()),
        (f"project_id={ids['project_id']}&type=page", {"page"}),
    ):
        assert set(kinds(real_app, f"query={word}&{query}")) == expected, query


def test_what_is_archived_is_found_when_asked_for(
    real_app: GatewayTestApp, real_stack: RealServices, made: dict[str, Json], word: str
) -> None:
    real_app.delete(f"/v2/pages/{made['page']['id']}", headers=AUTHORIZED)
    service(real_stack, "DELETE", f"/experiments/{made['experiment']['id']}")
    service(real_stack, "DELETE", f"/layers/{made['campaign']['id']}")
    assert kinds(real_app, f"query={word}") == ["event"]
    assert len(kinds(real_app, f"query={word}&archived=true")) == 4
    assert set(kinds(real_app, f"query={word}&status=archived")) == {"campaign", "experiment"}


def test_states_follow_actions_and_environments(
    real_app: GatewayTestApp, real_stack: RealServices, made: dict[str, Json], word: str
) -> None:
    service(real_stack, "PATCH", f"/experiments/{made['experiment']['id']}?action=start")
    query = f"query={word}"
    assert kinds(real_app, f"{query}&status=running") == ["experiment"]
    assert kinds(real_app, f"{query}&environment_key=production") == ["experiment"]
    assert kinds(real_app, f"{query}&environment_key=staging") == []
    assert kinds(real_app, f"{query}&environment_key=%22") == []


def test_order_and_pages(real_app: GatewayTestApp, made: dict[str, Json], word: str) -> None:
    assert kinds(real_app, f"query={word}") == ["experiment", "event", "page", "campaign"]
    assert kinds(real_app, f"query={word}&order=asc") == ["campaign", "page", "event", "experiment"]
    assert kinds(real_app, f"query={word}&sort=name") == ["campaign", "experiment", "page", "event"]
    assert kinds(real_app, f"query={word}&sort=name&order=desc")[0] == "event"
    first = real_app.get(f"/v2/search?query={word}&sort=name&per_page=3", headers=AUTHORIZED)
    assert [result["type"] for result in first.json] == ["campaign", "experiment", "page"]
    assert "page=2&per_page=3>; rel=next" in first.headers["Link"]
    response = real_app.get("/v2/search?query&sort=size", headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 400, "bad_request")


def test_expand_adds_the_projects_name(real_app: GatewayTestApp, made: dict[str, Json], word: str) -> None:
    assert found(real_app, f"query={word}&type=page&expand=project_name")[0]["project_name"] == "Shop"
    assert "project_name" not in found(real_app, f"query={word}&type=page")[0]


def test_another_account_finds_nothing_of_it(
    real_app: GatewayTestApp, ids: dict[str, int], made: dict[str, Json], word: str
) -> None:
    assert real_app.get(f"/v2/search?query={word}", headers=OTHER).json == []
    address = f"/v2/search?query&project_id={ids['project_id']}"
    assert_error(real_app.get(address, headers=OTHER, expect_errors=True), 403, "forbidden")


def test_an_event_that_happens_on_a_page_names_it(real_app: GatewayTestApp, ids: Json, word: str) -> None:
    body = {"event_type": "click", "name": word, "config": {"selector": "#buy"}}
    real_app.post_json(f"/v2/pages/{ids['page_id']}/events", body, headers=AUTHORIZED)
    (found,) = real_app.get(f"/v2/search?query={word}", headers=AUTHORIZED).json
    assert (found["type"], found["page_id"]) == ("event", ids["page_id"])
