"""Search over the entities of the experiments service."""

from collections.abc import Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.composition.parts import Known, Makers
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import PROJECTS, Entity, operation, visible_project
from optimizely_api.gateway.roles import projects_of
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Call, Collection

SEARCH = Collection("experiments", "/search", "SearchResult", "result")
PROJECT_CALLS = 10  # at once, for the names of the projects of a page
FILTERS = (
    *("query", "project_id", "type", "type_expand", "archived", "fullsearch", "status", "sort", "order"),
    *("environment_key", "audience_id"),
)
EXPANDED = ("feature_key", "feature_name")  # of the service's rows, shown only when asked for
PROJECT_NAME = "project_name"  # of the projects service alone, also when asked for


@operation
async def get_search_results(request: Request) -> list[Any]:
    query, page = request.swagger_data, requested_page(request)
    projects = [await visible_project(request, project_id) for project_id in query["project_id"] or ()]
    filters = {name: query[name] for name in FILTERS}
    if not projects and (of_user := projects_of(request)) is not None:
        if not of_user:
            return []
        filters["project_id"] = of_user
    expand = query["expand"] or ()
    makers: Makers = {
        "results": lambda _: calls.list_entities(SEARCH, request.identity.account_id, page, filters),
        "project_names": _project_calls if PROJECT_NAME in expand else lambda _: [],
    }
    parts = await request.fetch_parts(makers, {"project": projects}, at_most=PROJECT_CALLS)
    names = {project["id"]: project["name"] for project in parts["project_names"]}
    hidden = {PROJECT_NAME, *(name for name in EXPANDED if name not in expand)}
    return [
        public("SearchResult", {**{k: v for k, v in row.items() if k not in hidden}, **_named(row, names)})
        for row in linked_items(request, page, parts["results"])
    ]


def _named(row: Entity, names: Mapping[int, str]) -> dict[str, str]:
    project_id = row["project_id"]
    return {PROJECT_NAME: names[project_id]} if project_id in names else {}


def _project_calls(known: Known) -> list[Call]:
    ids = sorted({row["project_id"] for row in known["results"]["items"]})
    return [calls.get_entity(PROJECTS, project_id) for project_id in ids]
