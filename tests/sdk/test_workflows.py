"""What users of SDKs see of changes over REST: an A/B test from nothing to the archive, and a rollout bit by bit.

And what results say of the events that the SDKs send.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.sdk.conftest import SOON_SECONDS, Api
from tests.sdk.driven import Driven

pytestmark = [pytest.mark.registries, pytest.mark.slow]

USERS, VISITORS = 1000, 300
GOLD = json.dumps(["and", ["or", ["or", {"type": "custom_attribute", "name": "plan", "value": "gold"}]]])


def users(**attributes: Any) -> list[Any]:
    return [{"id": f"user-{number}", "attributes": attributes} for number in range(USERS)]


def checkout(api: Api, project: Any) -> Any:
    """An experiment for visitors of the plan gold, which counts orders and their revenue."""
    of_project = {"project_id": project["id"]}
    api.made("/attributes", key="plan", **of_project)
    gold = api.made("/audiences", name="Gold", conditions=GOLD, **of_project)
    order = api.made(f"/projects/{project['id']}/custom_events", key="order")
    return api.made(
        "/experiments",
        **of_project,
        key="checkout",
        audience_conditions=json.dumps(["or", {"audience_id": gold["id"]}]),
        variations=[{"key": key, "weight": 5000} for key in ("control", "treatment")],
        metrics=[
            {"event_id": order["id"], "aggregator": "unique"},
            {"event_id": order["id"], "aggregator": "sum", "field": "revenue"},
        ],
    )


def test_an_experiment_from_nothing_to_the_archive(api: Api, sdk: Driven) -> None:
    project = api.project()
    production = project["environments"]["production"]
    address = f"/experiments/{checkout(api, project)['id']}"

    sdk.open(api.url, production["datafile"]["sdk_key"])

    def entered(**attributes: Any) -> list[str | None]:
        sdk.wait(api.revision(production))
        return [one["experiments"]["checkout"] for one in sdk.decide(users(**attributes), ["checkout"])]

    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=start")
    began = entered(plan="gold")
    assert 400 < began.count("control") < 600
    assert began.count("control") + began.count("treatment") == USERS
    for attributes in ({}, {"plan": "silver"}, {"plan": 7}):
        assert set(entered(**attributes)) == {None}
    api.patched(f"{address}?action=pause")
    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=resume")
    assert entered(plan="gold") == began
    api.call("DELETE", f"/v2{address}", 204)
    assert set(entered(plan="gold")) == {None}
    api.call("DELETE", f"/v2{address}", 410)
    api.patched(f"{address}?action=unarchive")
    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=start")
    assert entered(plan="gold") == began


def test_results_are_what_the_sdk_sent(api: Api, sdk: Driven) -> None:
    project = api.project()
    experiment = checkout(api, project)
    address = f"/experiments/{experiment['id']}"
    api.patched(f"{address}?action=start")
    visitors = [visitor(number) for number in range(VISITORS)]

    sdk.open(api.url, project["environments"]["production"]["datafile"]["sdk_key"])
    variations = sdk.visit(visitors, "checkout")

    assert [variation is not None for variation in variations] == [is_gold(one) for one in visitors]
    ids = {one["key"]: str(one["variation_id"]) for one in experiment["variations"]}
    sent = {
        ids[key]: figures(
            one for one, variation in zip(visitors, variations, strict=True) if variation == key
        )
        for key in ids
    }
    assert_results(api, address, sent)
    assert_csv(api, address, sent)
    api.call("DELETE", f"/v2{address}", 204)
    assert_results(api, address, sent)


def visitor(number: int) -> Any:
    """Two of three are of the plan gold; some order nothing, some once, some twice."""
    orders = [("order", {"revenue": 1_000 + number, "colour": "red"})] * (number % 3 == 1)
    orders += [("order", {"revenue": 250})] * (number % 5 == 0)
    return {
        "id": f"visitor-{number}",
        "attributes": {"plan": "silver" if number % 3 == 0 else "gold"},
        "conversions": orders,
    }


def is_gold(visitor: Any) -> bool:
    return bool(visitor["attributes"]["plan"] == "gold")


def figures(visitors: Iterable[Any]) -> tuple[int, int, int]:
    """(visitors, visitors who ordered, their revenue in cents)."""
    orders = [[tags["revenue"] for _, tags in one["conversions"]] for one in visitors]
    return len(orders), sum(map(bool, orders)), sum(map(sum, orders))


def assert_results(api: Api, address: str, sent: dict[str, tuple[int, int, int]]) -> None:
    results = api.got(f"{address}/results")
    unique, revenue = (metric["results"] for metric in results["metrics"])
    reach = results["reach"]["variations"]
    assert {key: (reach[key]["count"], unique[key]["value"], revenue[key]["value"]) for key in sent} == sent
    assert results["reach"]["total_count"] == sum(visitors for visitors, _, _ in sent.values())


def assert_csv(api: Api, address: str, sent: dict[str, tuple[int, int, int]]) -> None:
    response = api.session.get(f"{api.url}/v2/export{address}/results/csv", timeout=SOON_SECONDS)
    assert response.status_code == 200, response.text
    found = {(key, name): 0 for key in sent for name in ("unique", "sum of revenue")}
    for row in csv.DictReader(io.StringIO(response.text)):
        found[row["Variation ID"], row["Metric Numerator Type"]] = int(float(row["Numerator Value"]))
        assert int(float(row["Denominator Value"])) == sent[row["Variation ID"]][0]
    expected = {(key, "unique"): converted for key, (_, converted, _) in sent.items()}
    assert found == expected | {(key, "sum of revenue"): revenue for key, (_, _, revenue) in sent.items()}


def test_users_of_a_rollout_stay_in_it_while_it_grows(api: Api, sdk: Driven) -> None:
    project = api.project()
    production = project["environments"]["production"]
    everybody = {"rollout_rules": [{"enabled": True, "percentage_included": 10000}]}
    feature = api.made(
        "/features",
        project_id=project["id"],
        key="search",
        variables=[{"key": "limit", "type": "integer", "default_value": "10"}],
        environments={"development": everybody},
    )
    address = f"/features/{feature['id']}"

    sdk.open(api.url, production["datafile"]["sdk_key"])

    def decided() -> list[Any]:
        sdk.wait(api.revision(production))
        return [one["flags"]["search"] for one in sdk.decide(users(), flags=["search"])]

    def changed(**rule: Any) -> list[Any]:
        api.patched(address, environments={"production": {"rollout_rules": [rule]}})
        return decided()

    assert not any(enabled for _, _, enabled, _ in decided())
    before: set[int] = set()
    for share in (500, 2500, 10000):
        found = changed(enabled=True, percentage_included=share)
        on = {number for number, (_, _, enabled, _) in enumerate(found) if enabled}
        assert before <= on
        assert abs(len(on) / USERS - share / 10000) < 0.05
        before = on
    assert before == set(range(USERS))
    found = changed(enabled=True, percentage_included=10000, variable_values={"limit": "25"})
    assert all(variables == {"limit": 25} for _, _, _, variables in found)

    test = api.made(
        "/experiments?action=start",
        project_id=project["id"],
        key="how_many",
        feature_id=feature["id"],
        variations=[
            {"key": "off", "weight": 5000, "feature_enabled": False},
            {"key": "many", "weight": 5000, "variable_values": {"limit": "50"}},
        ],
    )
    outcomes = {(enabled, variables["limit"]) for _, _, enabled, variables in decided()}
    assert outcomes == {(False, 10), (True, 50)}
    api.patched(f"/experiments/{test['id']}?action=pause")
    assert all(variables == {"limit": 25} for _, _, _, variables in decided())
    found = changed(enabled=False, percentage_included=10000)
    assert not any(enabled for _, _, enabled, _ in found)
    api.call("DELETE", f"/v2{address}", 204)
    assert api.datafile(production)["featureFlags"] == []
