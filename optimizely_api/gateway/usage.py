"""What an account uses: impressions by experiment, of three services' making.

The experiments service knows what experiments there are, the results service how often visitors were put into them, the
projects service on which platform.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from pyramid.request import Request

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Call, Page

Usage = dict[str, Any]  # the contract's ImpressionsUsage

PAGE_SIZE = 500  # of the services' lists; also the experiments of one question about impressions
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
    """The experiments of the caller's account with an impression between the days (UTC, both included), by id."""
    account_id = request.identity.account_id
    labels = await _whole(request, lambda page: calls.list_experiment_labels(account_id, page))
    chunks = [labels[start : start + PAGE_SIZE] for start in range(0, len(labels), PAGE_SIZE)]
    questions = [
        calls.count_impressions([label["id"] for label in chunk], first_day, last_day) for chunk in chunks
    ]
    answers = await request.fetch_all(questions, at_most=FAN_OUT)
    counts = {item["experiment_id"]: item["impressions"] for answer in answers for item in answer["items"]}
    if not counts:
        return []
    projects = await _whole(request, lambda page: calls.list_projects(account_id, page))
    return list(_rows(labels, counts, {project["id"]: project for project in projects}))


def _rows(
    labels: Iterable[dict[str, Any]], counts: Mapping[int, int], projects: Mapping[int, dict[str, Any]]
) -> Iterable[Usage]:
    for label in labels:
        project = projects.get(label["project_id"])
        if project is None or not counts.get(label["id"]):
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


async def _whole(request: Request, page_call: Any) -> Sequence[dict[str, Any]]:
    """All items of a service's list."""
    first = await request.fetch(page_call(Page(1, PAGE_SIZE)))
    last = -(-first["total"] // PAGE_SIZE)
    further: list[Call] = [page_call(Page(number, PAGE_SIZE)) for number in range(2, last + 1)]
    pages = [first, *(await request.fetch_all(further, at_most=FAN_OUT))] if further else [first]
    return [item for page in pages for item in page["items"]]
