"""Search over the entities of the experiments service."""

from typing import Any

from pyramid.request import Request

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import PROJECTS, operation, visible_project
from optimizely_api.gateway.roles import projects_of
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Collection

SEARCH = Collection("experiments", "/search", "SearchResult", "result")
PROJECT_CALLS = 10  # at once, for the names of the projects of a page
FILTERS = (
    *("query", "project_id", "type", "type_expand", "archived", "fullsearch", "status", "sort", "order"),
    *("environment_key", "audience_id"),
)
EXPANDED = ("project_name", "feature_key", "feature_name")  # shown only when asked for


@operation
async def get_search_results(request: Request) -> list[Any]:
    query, page = request.swagger_data, requested_page(request)
    for project_id in query["project_id"] or ():
        await visible_project(request, project_id)
    filters = {name: query[name] for name in FILTERS}
    if not query["project_id"] and (projects := projects_of(request)) is not None:
        if not projects:
            return []
        filters["project_id"] = projects
    call = calls.list_entities(SEARCH, request.identity.account_id, page, filters)
    found = linked_items(request, page, await request.fetch(call))
    expand = query["expand"] or ()
    names = await _project_names(request, found) if "project_name" in expand else {}
    hidden = set(EXPANDED) - set(expand)
    return [
        public("SearchResult", {**{k: v for k, v in row.items() if k not in hidden}, **_named(row, names)})
        for row in found
    ]


def _named(row: dict[str, Any], names: dict[int, str]) -> dict[str, str]:
    return {"project_name": names[row["project_id"]]} if names else {}


async def _project_names(request: Request, found: list[dict[str, Any]]) -> dict[int, str]:
    ids = sorted({row["project_id"] for row in found})
    if not ids:
        return {}
    projects = await request.fetch_all(
        [calls.get_entity(PROJECTS, project_id) for project_id in ids], at_most=PROJECT_CALLS
    )
    return {project["id"]: project["name"] for project in projects}
