"""What an account uses: impressions by experiment, of three services' making.

The results service knows how often visitors were put into experiments, the experiments service what those are, the
projects service on which platform.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from pyramid.request import Request

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Call, Page

Usage = dict[str, Any]  # the contract's ImpressionsUsage

COUNTED_AT_ONCE = 1_000  # experiments, as many as the service counts
NAMED_AT_ONCE = 200  # experiments or projects, by their ids in one address
FAN_OUT = 10  # calls under way at the same time

# The services' states in the words of the public API.
STATUSES = {
    "not_started": "Not started",
    "running": "Running",
    "paused": "Paused",
    "campaign_paused": "Paused",
    "concluded": "Concluded",
    "archived": "Archived",
}


async def usage_of_account(request: Request, first_day: date, last_day: date) -> list[Usage]:
    """The experiments of the caller's account with an impression between the days (UTC, both included), by id.

    Only those are asked about, however many others the account has.
    """
    account_id = request.identity.account_id
    counts = await _counts(request, first_day, last_day)
    labels = await _named(request, sorted(counts), partial(calls.list_experiment_labels, account_id))
    project_ids = sorted({label["project_id"] for label in labels})
    projects = await _named(request, project_ids, partial(_projects_by_id, account_id))
    return list(_rows(labels, counts, {project["id"]: project for project in projects}))


async def _counts(request: Request, first_day: date, last_day: date) -> dict[int, int]:
    """{experiment: its impressions between the days}, of all accounts."""
    found: dict[int, int] = {}
    while True:
        last = max(found, default=0)
        answer = await request.fetch(calls.count_impressions(first_day, last_day, last, COUNTED_AT_ONCE))
        found |= {item["experiment_id"]: item["impressions"] for item in answer["items"]}
        if len(answer["items"]) < COUNTED_AT_ONCE:
            return found


def _projects_by_id(account_id: int, ids: Sequence[int]) -> Call:
    return calls.list_projects(account_id, Page(1, len(ids)), [f"id:{number}" for number in ids])


async def _named(
    request: Request, ids: Sequence[int], call_for: Callable[[Sequence[int]], Call]
) -> list[dict[str, Any]]:
    """The entities of these ids that a service's lists have."""
    chunks = [ids[start : start + NAMED_AT_ONCE] for start in range(0, len(ids), NAMED_AT_ONCE)]
    answers = await request.fetch_all([call_for(chunk) for chunk in chunks], at_most=FAN_OUT)
    return [item for answer in answers for item in answer["items"]]


def _rows(
    labels: Iterable[dict[str, Any]], counts: Mapping[int, int], projects: Mapping[int, dict[str, Any]]
) -> Iterable[Usage]:
    for label in labels:
        project = projects.get(label["project_id"])
        if project is None:
            continue
        yield {
            "experiment_id": label["id"],
            "experiment_name": label["name"],
            "experiment_status": STATUSES.get(label["status"], label["status"]),
            "impression_count": counts[label["id"]],
            "platform": "web" if project["platform"] == "web" else "fullstack",
            "project_id": project["id"],
            "project_name": project["name"],
        }
