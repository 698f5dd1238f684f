"""The plan of an account, and the impressions that it has used of it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.real_services import RealServices

MOMENT = datetime(2015, 3, 14, 12, tzinfo=UTC)  # a day that no other test sends visitors on
DAY = "usage_date_from=2015-03-14&usage_date_to=2015-03-14"


@pytest.fixture(scope="module")
def usage(real_stack: RealServices) -> str:
    """The address of the account's usage, after six visitors on the day."""
    real_stack.send_visitors(6, MOMENT)
    return f"/v2/billing/usage/{real_stack.account_id}"


class TestUsage:
    def test_200_each_experiment_with_its_impressions(
        self, real_app: Any, usage: str, ids: dict[str, int]
    ) -> None:
        assert get(real_app, f"{usage}?{DAY}").json == [
            {
                "experiment_id": ids["experiment_id"],
                "experiment_name": "Button",
                "experiment_status": "Running",
                "impression_count": 6,
                "platform": "web",
                "project_id": ids["project_id"],
                "project_name": "Shop",
            }
        ]

    def test_200_nothing_on_a_day_without_impressions(self, real_app: Any, usage: str) -> None:
        query = "usage_date_from=2015-03-15&usage_date_to=2015-03-16"
        assert get(real_app, f"{usage}?{query}").json == []

    def test_200_nothing_past_the_end(self, real_app: Any, usage: str) -> None:
        assert get(real_app, f"{usage}?{DAY}&page=2").json == []

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("platforms=web", True),
            ("platforms=fullstack&platforms=edge", False),
            ("query={experiment_id}", True),
            ("query={project_id}", True),
            ("query={event_id}", False),
        ],
    )
    def test_200_only_what_the_filters_let_through(
        self, real_app: Any, usage: str, ids: dict[str, int], query: str, found: bool
    ) -> None:
        assert bool(get(real_app, f"{usage}?{DAY}&{query.format(**ids)}").json) is found

    @pytest.mark.parametrize(
        ("days", "place"),
        [
            ("usage_date_from=2026-02-30&usage_date_to=2026-03-01", "/query/usage_date_from"),
            ("usage_date_from=2026-03-02&usage_date_to=2026-03-01", "/query/usage_date_to"),
            ("usage_date_from=2026-03-02", "/query/usage_date_to"),
            (f"{DAY}&order=up", "/query/order"),
            (f"{DAY}&sort=name", "/query/sort"),
        ],
    )
    def test_400_names_what_is_wrong(self, real_app: Any, usage: str, days: str, place: str) -> None:
        response = real_app.get(f"{usage}?{days}", headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(response, 400, "bad_request")["messages"]) == [place]

    def test_403_for_another_account(self, real_app: Any, real_stack: RealServices) -> None:
        for address in (f"?{DAY}", "/summary"):
            address = f"/v2/billing/usage/{real_stack.other_account_id}{address}"
            response = real_app.get(address, headers=AUTHORIZED, expect_errors=True)
            assert_error(response, 403, "forbidden")


def test_200_most_impressions_first_unless_asked_otherwise(gateway: Any, services: Any) -> None:
    services.experiments = {n: samples.experiment(n) for n in (4001, 4002, 4003)}
    services.impressions = {4001: 5, 4002: 9, 4003: 7}
    usage = f"/v2/billing/usage/{samples.ACCOUNT}?{DAY}"
    counts = [row["impression_count"] for row in get(gateway, usage).json]
    assert counts == [9, 7, 5]
    first = get(gateway, f"{usage}&order=asc&per_page=2")
    assert [row["impression_count"] for row in first.json] == [5, 7]
    assert "rel=next" in first.headers["Link"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("not_started", "Not started"),
        ("running", "Running"),
        ("paused", "Paused"),
        ("campaign_paused", "Paused"),
        ("concluded", "Concluded"),
        ("archived", "Archived"),
    ],
)
def test_200_states_are_spelled_as_in_the_public_api(
    gateway: Any, services: Any, status: str, shown: str
) -> None:
    services.experiments = {4001: {**samples.experiment(4001), "status": status}}
    services.projects[samples.PROJECT]["platform"] = "custom"
    (row,) = get(gateway, f"/v2/billing/usage/{samples.ACCOUNT}?{DAY}").json
    assert (row["experiment_status"], row["platform"]) == (shown, "fullstack")


def test_200_all_experiments_count_however_many_there_are(gateway: Any, services: Any) -> None:
    services.experiments = {n: samples.experiment(n) for n in range(5000, 6100)}
    summary = get(gateway, f"/v2/billing/usage/{samples.ACCOUNT}/summary").json
    assert summary["usage"] == 3 * 1100


def test_200_an_experiment_of_another_account_does_not_count(gateway: Any, services: Any) -> None:
    services.experiments = {
        4001: samples.experiment(4001),
        4002: {**samples.experiment(4002), "account_id": 9},
    }
    summary = get(gateway, f"/v2/billing/usage/{samples.ACCOUNT}/summary").json
    assert summary["usage"] == 3


@pytest.fixture(scope="module")
def app_with_allowance(real_stack: RealServices) -> Any:
    settings = {"plan_name": "Team", "impressions_allowance": "1000"}
    with GatewayTestApp(main({}, **real_stack.settings(), **settings)) as app:
        yield app


class TestSummaryAndPlan:
    def test_200_the_summary_is_of_the_calendar_year(self, real_app: Any, usage: str) -> None:
        today = datetime.now(UTC).date()
        summary = get(real_app, f"{usage}/summary").json
        assert (summary["start_date"], summary["end_date"]) == (f"{today.year}-01-01", f"{today.year}-12-31")
        assert summary["last_update_date"] == today.isoformat()
        assert (summary["allowance"], summary["usage_percentage"]) == (0, 0)

    def test_200_an_impression_of_this_year_counts_in_summary_and_plan(
        self, app_with_allowance: Any, real_stack: RealServices, usage: str, ids: dict[str, int]
    ) -> None:
        before = get(app_with_allowance, f"{usage}/summary").json["usage"]
        (used,) = get(app_with_allowance, "/v2/plan").json["product_usages"]
        real_stack.send_visitors(4, datetime.now(UTC))
        summary = get(app_with_allowance, f"{usage}/summary").json
        assert summary["usage"] == before + 4
        assert summary["usage_percentage"] == min(100, summary["usage"] / 10)
        (product,) = get(app_with_allowance, "/v2/plan").json["product_usages"]
        project = str(ids["project_id"])
        assert product["projects"] == {**used["projects"], project: used["projects"].get(project, 0) + 4}
        assert product["usage"] == sum(product["projects"].values()) == summary["usage"]

    def test_200_the_plan_is_named_by_a_setting(self, app_with_allowance: Any, usage: str) -> None:
        plan = get(app_with_allowance, "/v2/plan").json
        assert (plan["plan_name"], plan["status"]) == ("Team", "active")
        assert plan["product_usages"][0]["usage_allowance"] == 1000

    def test_200_without_an_allowance_the_plan_names_none(self, real_app: Any) -> None:
        plan = get(real_app, "/v2/plan").json
        assert plan["plan_name"] == "Self-hosted"
        assert "usage_allowance" not in plan["product_usages"][0]
