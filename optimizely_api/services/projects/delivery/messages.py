"""What a webhook is told: from a row of a feed to the bodies of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from optimizely_api.contract.definitions import writable
from optimizely_api.contract.times import read_time

Json = dict[str, Any]

EVENTS = frozenset(writable("Webhook")["properties"]["events"]["items"]["enum"])
# Kinds of the change history, as the names of events call them. Others have no events.
KINDS = {
    "attribute": "attribute",
    "audience": "audience",
    "environment": "environment",
    "event": "event",
    "feature": "flag",
    "group": "group",
    "project": "project_setting",
}
DATAFILE_UPDATED = "project.datafile_updated"
SNIPPET_UPDATED = "project.snippet_updated"
# Receivers fetch a datafile at once, and a gateway may serve the one before for `datafile_cache_seconds` (0.5).
SERVED_AFTER = timedelta(seconds=0.55)
ENDINGS = {"create": "created", "update": "updated", "archive": "archived", "delete": "deleted"}


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a project, and the body of the calls about it."""

    project_id: int
    event: str
    created: datetime  # the sender moves it to the clock of this service
    body: str
    wait: timedelta = timedelta()  # from then to the first call


def messages_of_change(record: Json, public_url: str) -> Iterator[Message]:
    """What a record of the change history means: an event of its entity, and of the variables of a feature.

    `public_url` is the gateway's address, as receivers reach it.
    """
    kind, ending = record["entity"]["type"], ENDINGS.get(record["change_type"])
    if kind in KINDS and ending is not None:
        yield from _message(record, f"{KINDS[kind]}_{ending}", record["changes"], public_url)
    if kind == "feature":
        for detail in record["changes"]:
            if detail["property"] == "variables":
                for variable_ending, part in _changes_of_variables(detail):
                    yield from _message(record, f"variable_{variable_ending}", [part], public_url)


def message_of_revision(row: Json, environments: Mapping[int, str], public_url: str) -> Message:
    """What a revision of a datafile means; `environments` has their names by their ids."""
    url = f"{public_url}{row['url']}"
    name = environments.get(row["environment_id"], row["environment_key"])
    data = {"revision": row["revision"], "origin_url": url, "cdn_url": url, "environment": name}
    created = read_time(row["created"])
    return message(row["project_id"], DATAFILE_UPDATED, created, data, wait=SERVED_AFTER)


def message_of_snippet(row: Json, public_url: str) -> Message:
    """What a revision of a snippet means; the address is the project's, which shows it: nobody serves the script."""
    url = f"{public_url}/v2/projects/{row['project_id']}"
    data = {"revision": row["revision"], "origin_url": url, "cdn_url": url}
    return message(row["project_id"], SNIPPET_UPDATED, read_time(row["created"]), data)


def _message(record: Json, name: str, changes: list[Json], public_url: str) -> Iterator[Message]:
    event = f"project.{name}"
    if event not in EVENTS:
        return
    entity = record["entity"]
    addresses = {
        "api_url": f"{public_url}/v2/{entity['type']}s/{entity['id']}",
        "ui_url": f"{public_url}/docs",
    }
    data = {
        "change_type": record["change_type"],
        "summary": record["summary"],
        "entity": {**entity, **addresses},
        "user": record["user"],
        "changes": changes,
    }
    created = read_time(record["created"])
    yield message(record["project_id"], event, created, [data])


def message(
    project_id: int, event: str, created: datetime, data: Any, wait: timedelta = timedelta()
) -> Message:
    """A message with the body that all have: the times in them are whole seconds since 1970."""
    body = {"project_id": project_id, "timestamp": int(created.timestamp()), "event": event, "data": data}
    return Message(project_id, event, created, orjson.dumps(body).decode(), wait)


def _changes_of_variables(detail: Json) -> Iterator[tuple[str, Json]]:
    """The variables that are new, that differ and that are gone, each kind as a change of its own."""
    before = {variable["id"]: variable for variable in detail.get("before") or ()}
    after = {variable["id"]: variable for variable in detail.get("after") or ()}
    created = [variable for key, variable in after.items() if key not in before]
    changed = [key for key, variable in after.items() if key in before and before[key] != variable]
    deleted = [variable for key, variable in before.items() if key not in after]
    named = {"property": "variables", "description": detail["description"]}
    if created:
        yield "created", {**named, "after": created}
    if changed:
        sides = {"before": [before[key] for key in changed], "after": [after[key] for key in changed]}
        yield "updated", {**named, **sides}
    if deleted:
        yield "deleted", {**named, "before": deleted}
