"""What is in a project's snippet: pure functions from the rows of the project to one JSON text.

Names and shapes are those of the API. What no visitor meets is left out, so that it makes no new revision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from optimizely_api.services.experiments import definitions, shapes
from optimizely_api.services.experiments.references import references_of

Json = dict[str, Any]

# How a snippet is put together, and who is not counted: nothing that a visitor's browser needs.
NOT_SERVED = frozenset({"exclude_disabled_experiments", "exclude_names", "ip_filter"})
OF_EXPERIMENTS = ("type", "audience_conditions", "changes", "holdback")
OF_CAMPAIGNS = ("changes", "holdback")
OF_VARIATIONS = ("variation_id", "weight", "actions")
OF_PAGES = ("activation_code", "activation_type", "conditions")
OF_EVENTS = ("config", "event_type")
OF_EXTENSIONS = ("fields", "implementation")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a snippet is made of: the rows of a project that are not archived, ordered by id, but for all audiences
    and extensions, which stay in use when they are archived or disabled.
    """

    experiments: Sequence[Row[Any]]
    campaigns: Sequence[Row[Any]]
    pages: Sequence[Row[Any]]
    events: Sequence[Row[Any]]
    audiences: Sequence[Row[Any]]
    extensions: Sequence[Row[Any]]


def render(content: Json) -> bytes:
    """The bytes of a snippet, the same wherever it is built."""
    # ASCII, for a text may have half of a surrogate pair, which JSON can write and UTF-8 cannot.
    return json.dumps(content, separators=(",", ":")).encode()


def content(project_id: int, settings: Mapping[str, Any], site: Site, now: datetime) -> Json:
    """The snippet of a project; `settings` are its `web_snippet`."""
    named = not settings.get("exclude_names", True)
    running_only = settings.get("exclude_disabled_experiments", False)
    statuses = {row.id: shapes.state_of(row, now).status for row in site.experiments}
    experiments = [row for row in site.experiments if not running_only or statuses[row.id] == "running"]
    campaigns = [row for row in site.campaigns if not running_only or row.status == "running"]
    used = {(one.kind, one.id) for row in (*experiments, *campaigns) for one in references_of(row.document)}
    return {
        "project_id": project_id,
        "settings": {name: value for name, value in settings.items() if name not in NOT_SERVED},
        "campaigns": [_campaign(row, site.experiments, named) for row in campaigns],
        "experiments": [_experiment(row, statuses[row.id], named) for row in experiments],
        "pages": [_part(row, OF_PAGES, key=row.key) for row in site.pages],
        "events": [_part(row, OF_EVENTS, key=row.key, page_id=row.page_id) for row in site.events],
        "audiences": [_part(row, ("conditions",)) for row in site.audiences if ("audience", row.id) in used],
        "extensions": [_part(row, OF_EXTENSIONS) for row in site.extensions if ("extension", row.id) in used],
    }


def _part(row: Row[Any], names: Iterable[str], **further: Any) -> Json:
    return {"id": row.id, **further, **dict(_members(row.document, names))}


def _members(document: Json, names: Iterable[str], *, named: bool = False) -> Iterator[tuple[str, Any]]:
    """(name, value) of these members, and of the name where the snippet has names."""
    for name in (*names, *(("name",) if named else ())):
        if name in document:
            yield name, document[name]


def _campaign(row: Row[Any], experiments: Iterable[Row[Any]], named: bool) -> Json:
    members = [one.id for one in experiments if one.layer_id == row.id]
    stored = row.document.get("experiment_priorities", [])
    return {
        "id": row.id,
        "status": row.status,
        "page_ids": sorted(definitions.pages_of(row.document)),
        "experiment_priorities": definitions.shown_priorities(stored, members),
        **dict(_members(row.document, OF_CAMPAIGNS, named=named)),
    }


def _experiment(row: Row[Any], status: str, named: bool) -> Json:
    active = [one for one in row.document["variations"] if one["status"] == "active"]
    return {
        "id": row.id,
        "campaign_id": row.layer_id,
        "status": status,
        "page_ids": sorted(definitions.pages_of(row.document)),
        "variations": [dict(_members(one, OF_VARIATIONS, named=named)) for one in active],
        **dict(_members(row.document, OF_EXPERIMENTS, named=named)),
    }
