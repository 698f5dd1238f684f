"""Projects: what an account's experiments, campaigns and events belong to."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.contract.definitions import public, writable_part
from optimizely_api.gateway.datafiles import register
from optimizely_api.gateway.environments import all_environments
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import Entity, Resource, operation
from optimizely_api.gateway.snippets import snippets_of
from optimizely_api.upstream import calls
from optimizely_api.upstream.errors import UpstreamError

log = logging.getLogger(__name__)


class Projects(Resource):
    """Projects, of which those for the web have a snippet that the experiments service builds."""

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> list[Entity]:
        entities = list(entities)
        built = await request.fetch_optional(snippets_of(request, entities)) or {}
        shown = await super().shown(request, entities)
        return [_with_snippet(one, built.get(one["id"], {})) for one in shown]

    async def written(self, request: Request, entity: Mapping[str, Any]) -> Entity:
        try:
            return await super().written(request, entity)
        except UpstreamError as exc:
            # The write is done all the same: whoever reads the project names it again.
            log.warning("the snippet of project %d does not show its change yet: %s", entity["id"], exc)
            return _with_snippet(public(self.definition, entity), {})


def _with_snippet(project: Entity, built: Mapping[str, Any]) -> Entity:
    if "web_snippet" not in project:
        return project
    # In the settings of an earlier release there is a revision that counted changes of these alone.
    settings = writable_part("WebSnippet", project["web_snippet"])
    return {**project, "web_snippet": {**settings, **built}}


PROJECTS = Projects("Project", "projects")


@operation
async def list_projects(request: Request) -> list[Any]:
    page = requested_page(request)
    filters = request.swagger_data.get("filter") or ()
    listed = await request.fetch(
        calls.list_projects(request.identity.account_id, page, filters, _user_id(request))
    )
    return await PROJECTS.shown(request, linked_items(request, page, listed))


@operation
async def create_project(request: Request) -> dict[str, Any]:
    # Who is no administrator would not see it otherwise.
    owner = {"owner_id": user_id} if (user_id := _user_id(request)) else {}
    project = await PROJECTS.create(request, **owner)
    await _name_environments(request, project)
    return project


@operation
async def get_project(request: Request) -> dict[str, Any]:
    return await PROJECTS.get(request)


@operation
async def update_project(request: Request) -> dict[str, Any]:
    project = await PROJECTS.update(request)
    await _name_environments(request, project)
    return project


async def _name_environments(request: Request, project: dict[str, Any]) -> None:
    """Name the environments of a project that was written to the service that builds their datafiles.

    When that fails, the write is done all the same: whoever reads an environment names it again.
    """
    try:
        await register(request, await all_environments(request, project["id"]), written=True)
    except UpstreamError as exc:
        log.warning("the datafiles of project %d do not show its change yet: %s", project["id"], exc)


def _user_id(request: Request) -> str:
    """The user whose roles decide; empty for an administrator."""
    identity = request.identity
    return "" if identity.roles is None else str(identity.user_id)
