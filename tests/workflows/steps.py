"""What several workflows do: small programs of the API's users."""

import json
from typing import Any

from tests.support.whole_stack import Caller, Json, batch_of_events, visitor

THIRDS = (3333, 3333, 3334)


def new_project(api: Caller, platform: str, **members: Any) -> Json:
    project: Json = api.post("/projects", {"name": "Shop", "platform": platform, **members})
    return project


def conditions(*leaves: Json) -> str:
    """Conditions of an audience in the three levels that the web editor writes."""
    return json.dumps(["and", ["or", *(["or", leaf] for leaf in leaves)]])


def attribute_is(key: str, value: str) -> Json:
    return {"type": "custom_attribute", "name": key, "match_type": "exact", "value": value}


def audiences(*audience_ids: int) -> str:
    """The `audience_conditions` of those who are in one of the audiences."""
    return json.dumps(["or", *({"audience_id": audience_id} for audience_id in audience_ids)])


def halves(*keys: str, **members: Any) -> list[Json]:
    return [{"key": key, "weight": 5000, **members} for key in keys]


def unique_conversions(event: Json, **members: Any) -> Json:
    return {
        "event_id": event["id"],
        "aggregator": "unique",
        "scope": "visitor",
        "winning_direction": "increasing",
        **members,
    }


def visit(api: Caller, experiment: Json, event: Json, count: int, account_id: int) -> Json:
    """`count` visitors take turns in the variations, and every third one converts.

    Returns {variation id: (visitors, conversions)}; the ids are texts, as in results.
    """
    variations = experiment["variations"]
    seen = {str(one["variation_id"]): (0, 0) for one in variations}
    visitors = []
    for number in range(count):
        variation = variations[number % len(variations)]
        converts = number % 3 == 0
        visitors.append(visitor(experiment, variation, *([event] if converts else [])))
        visitors_before, conversions = seen[str(variation["variation_id"])]
        seen[str(variation["variation_id"])] = (visitors_before + 1, conversions + converts)
    api.send_events(batch_of_events(experiment, account_id, visitors))
    return seen


def without(entity: Json, *names: str) -> Json:
    return {name: value for name, value in entity.items() if name not in names}


def history(api: Caller, kind: str, entity: Json) -> list[Json]:
    """The records of the entity's changes, newest first."""
    records: list[Json] = api.all(
        "/changes", project_id=entity["project_id"], entity=f"{kind}:{entity['id']}"
    )
    return records
