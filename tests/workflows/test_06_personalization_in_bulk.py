"""A personalization campaign whose experiences come from a sheet."""

from tests.support.whole_stack import Caller, Json, batch_of_events, visitor
from tests.workflows.steps import audiences, conditions, new_project

SHEET = (("Berlin", "Hallo"), ("Paris", "Bonjour"), ("Rome", "Ciao"))


def test_a_personalization_campaign_in_bulk(api: Caller) -> None:
    project = new_project(api, "web")
    page, banner = _page(api, project), _banner(api, project)
    of_city = {city: _audience(api, project, city)["id"] for city, _ in SHEET}
    assert [one["id"] for one in api.all("/audiences", project_id=project["id"])] == list(of_city.values())
    assert [one["id"] for one in api.all("/pages", project_id=project["id"])] == [page["id"]]
    assert [one["id"] for one in api.all("/extensions", project_id=project["id"])] == [banner["id"]]

    buy = api.post(
        f"/pages/{page['id']}/events",
        {"name": "Buy", "event_type": "click", "config": {"selector": ".buy"}},
    )
    metric = {"event_id": buy["id"], "aggregator": "unique", "scope": "visitor"}
    campaign = api.post(
        "/campaigns",
        {"project_id": project["id"], "name": "Greetings", "page_ids": [page["id"]], "metrics": [metric]},
    )
    address = f"/campaigns/{campaign['id']}"
    assert (campaign["type"], campaign["status"], campaign["holdback"]) == (
        "personalization",
        "not_started",
        500,
    )

    experiences = [
        api.post("/experiments", _experience(campaign, page, banner, city, of_city[city], words))
        for city, words in SHEET
    ]
    for experience in experiences:
        assert (experience["type"], experience["metrics"]) == ("personalization", [])
    ids = [one["id"] for one in experiences]
    assert api.get(address)["experiment_priorities"] == [[one] for one in ids]
    order = [[one] for one in reversed(ids)]
    assert api.patch(address, {"experiment_priorities": order})["experiment_priorities"] == order

    listed = api.all("/experiments", campaign_id=campaign["id"], project_id=project["id"])
    assert [(one["name"], one["audience_conditions"], _words(one)) for one in listed] == [
        (city, audiences(of_city[city]), words) for city, words in SHEET
    ]

    _run_both(api, address, [f"/experiments/{one}" for one in ids])
    _assert_results_count(api, project, campaign, listed)


def _run_both(api: Caller, address: str, experiences: list[str]) -> None:
    """Visitors need both: a running campaign and a running experience."""
    for experience in experiences:
        assert api.patch(experience, {}, action="start")["status"] == "campaign_paused"
    assert api.get(address)["status"] == "not_started"
    assert api.patch(address, {}, action="start")["status"] == "running"
    assert {api.get(experience)["status"] for experience in experiences} == {"running"}
    paused = api.patch(address, {}, action="pause")
    assert paused["status"] == "paused"
    for experience in experiences:
        shown = api.get(experience)
        assert (shown["status"], shown["latest"]) == ("campaign_paused", paused["latest"])
    assert api.patch(address, {}, action="resume")["status"] == "running"


def _assert_results_count(api: Caller, project: Json, campaign: Json, experiences: list[Json]) -> None:
    visitors = [visitor(one, one["variations"][0]) for one in experiences for _ in range(10)]
    api.send_events(batch_of_events(experiences[0], project["account_id"], visitors))
    results = api.get(f"/campaigns/{campaign['id']}/results")
    assert results["campaign_id"] == campaign["id"]
    (metric,) = results["metrics"]
    assert metric["event_id"] == campaign["metrics"][0]["event_id"]
    found = {
        one["experiment_id"]: one["samples"] for one in metric["results"].values() if "experiment_id" in one
    }
    assert found == {one["id"]: 10 for one in experiences}


def _page(api: Caller, project: Json) -> Json:
    body = {"project_id": project["id"], "name": "Home", "edit_url": "https://bank.example/"}
    page: Json = api.post("/pages", body)
    return page


def _banner(api: Caller, project: Json) -> Json:
    field = {"api_name": "words", "default_value": '"Hello"', "field_type": "text", "label": "Words"}
    body = {
        "project_id": project["id"],
        "name": "Banner",
        "edit_url": "https://bank.example/",
        "implementation": {"html": "<b>{{extension.words}}</b>"},
        "fields": [field],
    }
    banner: Json = api.post("/extensions", body)
    return banner


def _audience(api: Caller, project: Json, city: str) -> Json:
    in_city = conditions({"type": "location", "value": f"EU|{city}"})
    audience: Json = api.post(
        "/audiences", {"project_id": project["id"], "name": f"In {city}", "conditions": in_city}
    )
    return audience


def _experience(campaign: Json, page: Json, banner: Json, city: str, audience_id: int, words: str) -> Json:
    change = {"type": "extension", "extension_id": str(banner["id"]), "config": {"words": words}}
    return {
        "project_id": campaign["project_id"],
        "campaign_id": campaign["id"],
        "type": "personalization",
        "name": city,
        "audience_conditions": audiences(audience_id),
        "variations": [
            {"name": city, "weight": 10000, "actions": [{"page_id": page["id"], "changes": [change]}]}
        ],
    }


def _words(experience: Json) -> str:
    return str(experience["variations"][0]["actions"][0]["changes"][0]["config"]["words"])
