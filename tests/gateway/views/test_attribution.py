"""Attribution: which experiments a visitor was in."""

import uuid
from typing import Any

import pytest
import requests

from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.real_services import AS_GATEWAY, RealServices

Json = dict[str, Any]
NOON = 1_780_000_000_000


@pytest.fixture
def visitor() -> str:
    return f"visitor {uuid.uuid4()}"


def decide(stack: RealServices, visitor: str, experiment: Json, at: int, *, held_back: bool = False) -> None:
    """Send what an SDK sends when a visitor enters an experiment's first variation."""
    decision = {
        "campaign_id": str(experiment["campaign_id"]),
        "experiment_id": str(experiment["id"]),
        "variation_id": "" if held_back else str(experiment["variations"][0]["variation_id"]),
        "is_campaign_holdback": held_back,
    }
    event = {
        "entity_id": str(experiment["campaign_id"]),
        "key": "campaign_activated",
        "uuid": str(uuid.uuid4()),
        "timestamp": at,
    }
    body = {
        "account_id": str(stack.account_id),
        "client_name": "test",
        "client_version": "1",
        "anonymize_ip": True,
        "enrich_decisions": True,
        "visitors": [
            {
                "visitor_id": visitor,
                "attributes": [],
                "snapshots": [{"decisions": [decision], "events": [event]}],
            }
        ],
    }
    answer = requests.post(stack.urls["results"] + "/v1/events", json=body, headers=AS_GATEWAY, timeout=30)
    assert answer.status_code == 204, answer.text


def history(app: GatewayTestApp, stack: RealServices, visitor: str, query: str = "") -> Any:
    return get(app, f"/v2/attribution/{stack.account_id}/visitor/{visitor}?{query}")


def numbers(response: Any) -> list[int]:
    return [one["experiment_id"] for one in response.json["bucketing_history"]]


def test_200_each_experiment_with_the_variation_that_the_visitor_saw_first(
    real_app: GatewayTestApp, real_stack: RealServices, visitor: str
) -> None:
    experiment = real_stack.experiment
    decide(real_stack, visitor, experiment, NOON)
    decide(real_stack, visitor, experiment, NOON + 1000)
    assert history(real_app, real_stack, visitor).json == {
        "account_id": real_stack.account_id,
        "visitor_id": visitor,
        "bucketing_history": [
            {
                "campaign_id": experiment["campaign_id"],
                "experiment_id": experiment["id"],
                "is_holdback": False,
                "timestamp": NOON,
                "variation_id": experiment["variations"][0]["variation_id"],
            }
        ],
    }


def test_200_the_newest_first_in_pages_and_between_two_times(
    real_app: GatewayTestApp, real_stack: RealServices, visitor: str
) -> None:
    made = [real_stack.another_experiment() for _ in range(3)]
    for number, experiment in enumerate(made):
        decide(real_stack, visitor, experiment, NOON + 1000 * number)
    first, second, third = (one["id"] for one in made)
    response = history(real_app, real_stack, visitor, "per_page=2")
    assert numbers(response) == [third, second]
    assert "page=2&per_page=2>; rel=next" in response.headers["Link"]
    assert numbers(history(real_app, real_stack, visitor, "per_page=2&page=2")) == [first]
    start = "start_time=2026-05-28T20:26:41Z"  # the second's time, which is included
    assert numbers(history(real_app, real_stack, visitor, start)) == [third, second]
    end = "end_time=2026-05-28T20:26:41Z"
    assert numbers(history(real_app, real_stack, visitor, end)) == [second, first]


def test_200_a_visitor_who_was_held_back_has_no_variation(
    real_app: GatewayTestApp, real_stack: RealServices, visitor: str
) -> None:
    decide(real_stack, visitor, real_stack.experiment, NOON, held_back=True)
    (one,) = history(real_app, real_stack, visitor).json["bucketing_history"]
    assert (one["is_holdback"], "variation_id" in one) == (True, False)


def test_200_no_decisions_of_an_unknown_visitor_or_an_experiment_that_the_account_does_not_have(
    real_app: GatewayTestApp, real_stack: RealServices, visitor: str
) -> None:
    assert history(real_app, real_stack, visitor).json["bucketing_history"] == []
    decide(real_stack, visitor, {**real_stack.experiment, "id": 4_242}, NOON)
    assert history(real_app, real_stack, visitor).json["bucketing_history"] == []


def test_403_for_another_account(real_app: GatewayTestApp, real_stack: RealServices, visitor: str) -> None:
    address = f"/v2/attribution/{real_stack.other_account_id}/visitor/{visitor}"
    assert_error(real_app.get(address, headers=AUTHORIZED, expect_errors=True), 403, "forbidden")


def test_400_for_an_id_that_no_database_can_hold(real_app: GatewayTestApp, real_stack: RealServices) -> None:
    address = f"/v2/attribution/{real_stack.account_id}/visitor/a%00b"
    response = real_app.get(address, headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/path/visitor_id"]
