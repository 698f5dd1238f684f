"""What the gateway says of results, in front of the three services themselves."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from typing import Any

import pytest
import pytest_asyncio

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.services.conftest import Caller, Serve
from tests.services.results.sending import HOUR, NOON, batch, conversion, impression, iso
from tests.services.results.test_bots import CHROME, GOOGLEBOT, filtering
from tests.support.serving import KEEPS_NOTHING

TOKEN = "2:through-the-gateway"  # of a database that the test makes
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TWO = [{"key": "a", "weight": 5_000}, {"key": "b", "weight": 5_000}]


class Shop:
    """A project with an experiment that ran from noon, and its services."""

    def __init__(self, services: dict[str, Caller], experiment: dict[str, Any]) -> None:
        self.services, self.experiment = services, experiment
        self.control, self.treatment = (one["variation_id"] for one in experiment["variations"])

    async def send(self, *entries: Any) -> None:
        """Post visitor entries."""
        body = batch(*entries, project_id=str(self.experiment["project_id"]))
        assert (await self.services["results"].post("/v1/events", body))[0] == 204

    def entered(self, visitor: str, variation: int, at: int = NOON) -> dict[str, Any]:
        """The entry of a decision."""
        return impression(visitor, variation, at, experiment=self.experiment["id"])

    async def change(self, action: str, at: int) -> None:
        """Start or pause the experiment."""
        path = f"/experiments/{self.experiment['id']}?action={action}&at={iso(at)}"
        assert (await self.services["experiments"].patch(path, {}))[0] == 200

    async def results(self, query: str = "", status: int = 200) -> Any:
        """Ask a gateway that keeps nothing."""
        return await asyncio.to_thread(self._results, query, status)

    def _gateway(self) -> GatewayTestApp:
        settings = {f"{name}_url": service.url for name, service in self.services.items()}
        return GatewayTestApp(main({}, **settings, **KEEPS_NOTHING))

    def send_by_the_gateway(self, body: dict[str, Any], agent: str) -> int:
        """Post a batch to the gateway; the status."""
        with self._gateway() as gateway:
            status: int = gateway.post_json("/v1/events", body, headers={"User-Agent": agent}).status_int
            return status

    async def get(self, path: str) -> Any:
        """Ask a gateway that keeps nothing for something else of the experiment."""
        return await asyncio.to_thread(self._get, path.format(self.experiment["id"]), 200)

    def _results(self, query: str, status: int) -> Any:
        return self._get(f"/v2/experiments/{self.experiment['id']}/results{query}", status)

    def _get(self, path: str, status: int) -> Any:
        with self._gateway() as gateway:
            return gateway.get(path, headers=HEADERS, status=status)


@pytest_asyncio.fixture
async def shop(serve: Serve) -> Shop:
    services = {name: await serve(name) for name in ("projects", "experiments", "results")}
    account = await services["projects"].made("/accounts", {"name": "Shop"})
    given = {"name": "Test", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    await services["projects"].made(f"/accounts/{account['id']}/tokens", given)
    project = await services["projects"].made("/projects", {"account_id": account["id"], "name": "Web"})
    owner = {"account_id": account["id"], "project_id": project["id"]}
    event = await services["experiments"].made("/events", {**owner, "key": "buy"})
    body = {
        **owner,
        "name": "Checkout",
        "url_targeting": {"edit_url": "https://shop.example/"},
        "variations": TWO,
        "metrics": [{"event_id": event["id"]}],
    }
    path = f"/experiments?action=start&at={iso(NOON)}"
    return Shop(services, await services["experiments"].made(path, body))


async def test_a_sample_ratio_mismatch_is_a_header(shop: Shop) -> None:
    await shop.send(*[shop.entered(f"c{number}", shop.control, NOON + 2 * HOUR) for number in range(400)])
    await shop.send(*[shop.entered(f"t{number}", shop.treatment, NOON + 2 * HOUR) for number in range(200)])
    response = await shop.results()
    assert 0 < float(response.headers["X-Sample-Ratio-Mismatch"]) < 0.01
    assert "X-Sample-Ratio-Mismatch" in response.headers["Access-Control-Expose-Headers"]
    assert "sample_ratio_p_value" not in response.json


async def test_there_is_no_such_header_while_visitors_come_as_the_weights_say(shop: Shop) -> None:
    entries = [
        shop.entered(f"v{number}", shop.control if number % 2 else shop.treatment) for number in range(400)
    ]
    await shop.send(*entries)
    assert "X-Sample-Ratio-Mismatch" not in (await shop.results()).headers


@pytest.mark.parametrize(("agent", "counted"), [(GOOGLEBOT, 0), (CHROME, 1)], ids=["bot", "browser"])
async def test_bots_that_send_by_the_gateway_are_recognised(shop: Shop, agent: str, counted: int) -> None:
    entry = {**shop.entered("ann", shop.control), "attributes": filtering()}
    body = batch(entry, project_id=str(shop.experiment["project_id"]))
    assert await asyncio.to_thread(shop.send_by_the_gateway, body, agent) == 204
    await shop.send(shop.entered("bob", shop.control))
    assert (await shop.results()).json["reach"]["total_count"] == 1 + counted


async def test_results_of_a_paused_experiment_stand_still_and_go_on_when_it_runs_again(shop: Shop) -> None:
    buy = shop.experiment["metrics"][0]["event_id"]
    await shop.send(shop.entered("ann", shop.control), conversion("ann", buy, NOON + HOUR))
    await shop.change("pause", NOON + 2 * HOUR)
    paused = await shop.results()
    await shop.send(shop.entered("bob", shop.control, NOON + 3 * HOUR))
    await shop.send(conversion("ann", buy, NOON + 3 * HOUR))
    assert (await shop.results()).json == paused.json
    assert paused.json["end_time"] == iso(NOON + 2 * HOUR)
    await shop.change("resume", NOON + 4 * HOUR)
    await shop.send(shop.entered("eve", shop.treatment, NOON + 5 * HOUR))
    resumed = (await shop.results()).json
    assert resumed["reach"]["total_count"] == 2
    assert resumed["metrics"][0]["results"][str(shop.control)]["value"] == 1


async def test_a_variation_added_while_it_runs_is_in_the_results(shop: Shop) -> None:
    third = [{**TWO[0], "weight": 4_000}, {**TWO[1], "weight": 3_000}, {"key": "c", "weight": 3_000}]
    path = f"/experiments/{shop.experiment['id']}?at={iso(NOON + HOUR)}"
    _, changed = await shop.services["experiments"].patch(path, {"variations": third})
    added = changed["variations"][2]["variation_id"]
    await shop.send(shop.entered("ann", shop.control), shop.entered("bob", added, NOON + 2 * HOUR))
    reach = (await shop.results()).json["reach"]
    assert reach["total_count"] == 2
    assert reach["variations"][str(added)]["count"] == 1


async def test_series_and_file_have_the_figures_of_the_results(shop: Shop) -> None:
    buy = shop.experiment["metrics"][0]["event_id"]
    await shop.send(shop.entered("ann", shop.control), shop.entered("bob", shop.treatment, NOON + HOUR))
    await shop.send(conversion("ann", buy, NOON + 2 * HOUR), conversion("bob", buy, NOON + 3 * HOUR))
    query = f"?end_time={iso(NOON + 6 * HOUR)}"
    results = (await shop.results(query)).json["metrics"][0]["results"]
    series = (await shop.get("/v2/experiments/{}/timeseries" + query)).json["metrics"][0]["results"]
    file = await shop.get("/v2/export/experiments/{}/results/csv" + query)
    rows = csv.DictReader(io.StringIO(file.text, newline=""))
    in_file = {row["Variation ID"]: (row["Numerator Value"], row["Denominator Value"]) for row in rows}
    for variation, figures in results.items():
        assert (figures["value"], figures["samples"]) == (1, 1)
        assert (
            series[variation]["timeseries"][-1].items() <= {**figures, "time": iso(NOON + 6 * HOUR)}.items()
        )
        assert in_file[variation] == ("1", "1")
    counted = [point["value"] for point in series[str(shop.control)]["timeseries"]]
    assert counted == [0, 0, 1, 1, 1, 1]
    assert (await shop.get("/v2/experiments/{}/report")).json["inferred_outcome"] == "inconclusive"


@pytest.mark.parametrize("query", ["", "?start_time=2026-01-01T00:00:00Z"])
async def test_204_while_nobody_decided_since_the_start(shop: Shop, query: str) -> None:
    await shop.send(shop.entered("ann", shop.control, NOON - 1))
    assert (await shop.results(query, 204)).body == b""
