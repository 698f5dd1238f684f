"""Bravado, built from the served document with all its validation on, goes through the whole life of every kind.

Prints the kinds that it went through. Run by the client's own interpreter.
"""

import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bravado.client import SwaggerClient
from bravado.exception import HTTPError, HTTPGone
from bravado.requests_client import RequestsClient

URL = os.environ["API_URL"]
CONFIG = {
    "validate_swagger_spec": True,
    "validate_requests": True,
    "validate_responses": True,
    "use_models": False,
}
BODIES = json.loads((Path(__file__).parent / "bodies.json").read_text())
TAGS = {"ListAttribute": "List_Attributes"}
ARCHIVED_BY_PATCH = {"Audience"}


def connect():
    http = RequestsClient()
    host = urlsplit(URL).netloc
    http.set_api_key(host, f"Bearer {os.environ['API_TOKEN']}", param_name="Authorization", param_in="header")
    return SwaggerClient.from_url(f"{URL}/v2/swagger.json", http_client=http, config=CONFIG)


def call(operation, **arguments):
    return operation(**arguments).response().result


def whole_life(client, kind, project_id):
    noun = re.sub("(?<!^)(?=[A-Z])", "_", kind).lower()
    resource = getattr(client, TAGS.get(kind, f"{kind}s"))
    made = call(getattr(resource, f"create_{noun}"), body={"project_id": project_id, **BODIES[kind]})
    named = {f"{noun}_id": made["id"]}
    assert call(getattr(resource, f"get_{noun}"), **named) == made
    listed = call(getattr(resource, f"list_{noun}s"), project_id=project_id)
    assert made["id"] in [one["id"] for one in listed]
    change = {"name": f"Another_{noun}"} if kind != "Feature" else {"description": "Another"}
    changed = call(getattr(resource, f"update_{noun}"), body=change, **named)
    assert change.items() <= changed.items(), changed
    archive = getattr(resource, f"delete_{noun}", None) or getattr(resource, f"archive_{noun}", None)
    if kind in ARCHIVED_BY_PATCH:
        assert call(getattr(resource, f"update_{noun}"), body={"archived": True}, **named)["archived"]
        return
    call(archive, **named)
    archived = call(getattr(resource, f"get_{noun}"), **named)
    assert archived.get("archived") or archived.get("status") == "archived", archived
    try:
        call(archive, **named)
    except HTTPGone:
        return
    except HTTPError as exc:
        raise AssertionError(f"{kind}: {exc}") from exc
    raise AssertionError(f"{kind}: archived twice")


def events(client, project_id):
    page = call(client.Pages.create_page, body={"project_id": project_id, **BODIES["Page"], "name": "Second"})
    custom = call(client.Events.create_custom_event, project_id=project_id, body={"key": "order"})
    click = {"name": "Buy", "event_type": "click", "config": {"selector": ".buy"}}
    click = call(client.Events.create_in_page_event, page_id=page["id"], body=click)
    named = {"project_id": project_id, "event_id": custom["id"]}
    assert call(client.Events.update_custom_event, body={"name": "Order"}, **named)["name"] == "Order"
    of_page = {"page_id": page["id"], "event_id": click["id"]}
    assert call(client.Events.update_in_page_event, body={"name": "Bought"}, **of_page)["name"] == "Bought"
    assert call(client.Events.get_event, event_id=click["id"])["name"] == "Bought"
    listed = {one["id"]: one["event_type"] for one in call(client.Events.list_events, project_id=project_id)}
    assert listed[custom["id"]] == "custom"
    assert listed[click["id"]] == "click"
    call(client.Events.delete_custom_event, **named)
    call(client.Events.delete_in_page_event, **of_page)


def sections(client, project_id):
    body = {"project_id": project_id, "type": "multivariate", "name": "Parts"}
    experiment = call(client.Experiments.create_experiment, body=body)
    halves = [{"name": "One", "weight": 5000}, {"name": "Two", "weight": 5000}]
    named = {"experiment_id": experiment["id"]}
    section = call(client.Sections.create_section, body={"name": "Head", "variations": halves}, **named)
    named["section_id"] = section["id"]
    assert call(client.Sections.get_section, **named) == section
    assert call(client.Sections.update_section, body={"name": "Foot"}, **named)["name"] == "Foot"
    call(client.Sections.delete_section, **named)


def webhooks(client, project_id):
    body = {"name": "Agent", "url": "https://agent.example/", "project_id": project_id}
    webhook = call(client.Webhooks.create_webhook, project_id=project_id, body=body)
    named = {"webhook_id": webhook["id"]}
    assert call(client.Webhooks.get_webhook, **named)["name"] == "Agent"
    call(client.Webhooks.delete_webhook, **named)


def actions_and_results(client, project_id):
    body = {"project_id": project_id, **BODIES["Experiment"]}
    experiment = call(client.Experiments.create_experiment, body=body, action="start")
    named = {"experiment_id": experiment["id"]}
    for action, status in (("pause", "paused"), ("resume", "running")):
        assert call(client.Experiments.update_experiment, action=action, body={}, **named)["status"] == status
    assert call(client.Experiments.get_experiment_results, **named) is None  # 204
    changes = call(client.Change_History.list_change_history, project_id=project_id)
    assert changes[0]["changes"][0]["property"] == "status"
    found = call(client.Search.get_search_results, query="Buy", project_id=[project_id])
    assert experiment["id"] in [one["id"] for one in found]
    call(client.Plan.get_plan)
    call(client.Subject_Access_Requests.list_sar_requests_by_account)


def main():
    client = connect()
    project = call(client.Projects.create_project, body={"name": "By bravado"})
    assert call(client.Projects.get_project, project_id=project["id"]) == project
    assert [one["id"] for one in call(client.Projects.list_projects)] == [project["id"]]
    for kind in BODIES:
        whole_life(client, kind, project["id"])
    for others in (events, sections, webhooks, actions_and_results):
        others(client, project["id"])
    changed = call(client.Projects.update_project, project_id=project["id"], body={"status": "archived"})
    assert changed["status"] == "archived"
    json.dump([*BODIES, "Event", "Section", "Webhook", "Project"], sys.stdout)


main()
