"""List, get, create, update and archive of an entity: three lines a view.

    ATTRIBUTES = Resource("Attribute", "experiments")

    @operation
    async def list_attributes(request):
        return await ATTRIBUTES.list(request)

The contract has checked the request already. `Resource` checks that the caller may see the project or entity that the
request names, makes the call, and returns only the contract's properties.
"""

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.contract import CONTRACT
from optimizely_api.contract.definitions import noun_of, public, writable_part
from optimizely_api.gateway.errors import BadRequest, NotFound, PreconditionFailed
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.publishing import check_write
from optimizely_api.gateway.roles import check_project, projects_of
from optimizely_api.http.codings import CODINGS
from optimizely_api.http.entity_tags import coded_tag, entity_tag, names_tag, version_tag
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Collection
from optimizely_api.upstream.errors import EntityNotFound

Entity = dict[str, Any]
View = Callable[[Request], Any]

PROJECTS = Collection("projects", "/projects", "Project", "project")


def operation(view: View) -> View:
    """Make a coroutine the view of the operation of its name; what it returns is rendered as JSON."""
    registered: View = view_config(route_name=view.__name__, renderer="json", _depth=1)(view)
    return registered


class Resource:
    """An entity of the contract and the service that keeps it."""

    def __init__(
        self, definition: str, service: str, *, noun: str = "", path: str = "", shape: str = ""
    ) -> None:
        """`noun` is what messages, ids (`<noun>_id`) and the service's path call it; it follows from the definition.

        `shape` is what the service's responses look like, where that is more than the definition (`shapes.py`).
        """
        self.definition = definition
        self.noun = noun or noun_of(definition)
        self.collection = Collection(service, path or f"/{self.noun}s", definition, self.noun, shape)

    async def list(self, request: Request, *filters: str, **fixed: Any) -> list[Entity]:
        """A page of the entities of the project that the query names; `filters` are further query parameters.

        `fixed` are filters that do not come from the query.
        """
        query, page = request.swagger_data, requested_page(request)
        chosen = {name: query.get(name) for name in ("project_id", "archived", *filters)}
        if chosen["project_id"] is not None:
            await visible_project(request, query["project_id"])
        elif not fixed and (projects := projects_of(request)) is not None:
            if not projects:
                return []
            chosen["project_id"] = projects
        call = calls.list_entities(self.collection, request.identity.account_id, page, {**chosen, **fixed})
        listed = await request.fetch(call)
        return await self.shown(request, linked_items(request, page, listed))

    async def get(self, request: Request, **within: Any) -> Entity:
        return (await self.shown(request, [await self.visible(request, **within)]))[0]

    async def create(self, request: Request, **fixed: Any) -> Entity:
        """201 with the complete entity; `fixed` are members that the address sets, in place of the body's."""
        body = {**sent_body(request), **fixed, "account_id": request.identity.account_id}
        if "project_id" in fixed:
            await _check_addressed_project(request, fixed["project_id"])
        elif "project_id" in body:
            await named_project(request, body["project_id"])
        if request.identity.roles is not None:
            await check_write(request, self.definition, body, None)
        body = await self.prepared(request, body, None)
        entity = await request.fetch(calls.create_entity(self.collection, body, sent_action(request)))
        request.response.status_int = 201
        return await self.written(request, entity)

    async def update(self, request: Request, **within: Any) -> Entity:
        """200 with the complete entity; `If-Match` may name the ETag of the entity to change."""
        entity = await self.visible(request, **within)
        if request.identity.roles is not None:
            await check_write(request, self.definition, sent_body(request), entity)
        version = await self.version(request, entity)
        body = await self.prepared(request, sent_body(request), entity)
        call = calls.update_entity(self.collection, entity["id"], body, sent_action(request), version)
        return await self.written(request, await request.fetch(call))

    async def archive(self, request: Request, **within: Any) -> None:
        """204, or 410 if the entity is archived already."""
        entity = await self.visible(request, **within)
        version = await self.version(request, entity)
        await request.fetch(calls.archive_entity(self.collection, entity["id"], version))
        request.response.status_int = 204

    async def visible(self, request: Request, **within: Any) -> Entity:
        """The entity whose id the path names; raises EntityNotFound, NotFound or Forbidden.

        `within` are the members that it must have where its address names its parent: the 404 of a child under the
        wrong parent.
        """
        entity_id = request.swagger_data[f"{self.noun}_id"]
        # A condition is about the entity as it is, not as it was kept a moment ago.
        fresh = "HTTP_IF_MATCH" in request.environ
        entity: Entity = await request.fetch(calls.get_entity(self.collection, entity_id, fresh=fresh))
        what = f"{self.noun.replace('_', ' ')} {entity_id}"
        check_account(request.identity, entity, what)
        if request.identity.roles is not None:
            await check_project(request, entity["id" if self.definition == "Project" else "project_id"])
        if any(entity.get(name) != value for name, value in within.items()):
            raise NotFound(what)
        return entity

    async def prepared(self, request: Request, body: Entity, before: Entity | None) -> Entity:
        """Return the body for the service; a subclass adds data of other services. `before` is the entity to change."""
        return body

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> builtins.list[Entity]:
        """Return the contract's properties of entities; a subclass adds data of other services."""
        return [public(self.definition, entity) for entity in entities]

    async def written(self, request: Request, entity: Mapping[str, Any]) -> Entity:
        """Return the response of a write, with the ETag that a GET would have (RFC 9110 section 8.8.3)."""
        (shown,) = await self.shown(request, [entity])
        request.response.headers["ETag"] = entity_tag(orjson.dumps(shown))
        return shown

    async def version(self, request: Request, entity: Mapping[str, Any]) -> str:
        """The service's version of the entity, when the request has a condition; raises PreconditionFailed.

        The condition names the ETag of the contract's representation, in any content coding. The service holds its
        own version against what it has when it writes, so that nothing comes in between.
        """
        condition = request.environ.get("HTTP_IF_MATCH")
        if condition is None:
            return ""
        (shown,) = await self.shown(request, [entity])
        etag = entity_tag(orjson.dumps(shown))
        if not any(names_tag(condition, coded_tag(etag, coding)) for coding in (None, *CODINGS)):
            raise PreconditionFailed
        return version_tag(entity)


def sent_body(request: Request) -> Entity:
    """What the caller may set, of the body: a service takes internal keys beside it, which callers must not reach."""
    operation = request.registry[CONTRACT].operations[request.matched_route.name]
    reference = next(p["schema"]["$ref"] for p in operation.spec["parameters"] if p["in"] == "body")
    sent: Entity = writable_part(reference.rsplit("/", 1)[1], request.swagger_data["body"])
    return sent


def sent_action(request: Request) -> calls.Query:
    """The query of a write whose operation takes an `action`, such as `start`; empty without one."""
    action = request.swagger_data.get("action")
    return (("action", action),) if action else ()


async def visible_project(request: Request, project_id: int) -> Entity:
    """A project that the address names; raises EntityNotFound, or Forbidden when it is another account's."""
    project: Entity = await request.fetch(calls.get_entity(PROJECTS, project_id))
    check_account(request.identity, project, f"project {project_id}")
    if request.identity.roles is not None:
        await check_project(request, project_id)
    return project


async def named_project(request: Request, project_id: int) -> Entity:
    """A project that a body names for something new: an unknown or archived one is a 400."""
    try:
        project = await visible_project(request, project_id)
    except EntityNotFound:
        raise _wrong_project(f"names no project: there is no project {project_id}") from None
    if project.get("status") == "archived":
        raise _wrong_project(f"names project {project_id}, which is archived")
    return project


async def _check_addressed_project(request: Request, project_id: int) -> None:
    """Raise BadRequest for something new at the address of an archived project, or of an entity of one."""
    project = await visible_project(request, project_id)
    if project.get("status") == "archived":
        (parameter,) = request.matchdict
        problem = f"is of project {project_id}, which is archived"
        raise BadRequest(f"{parameter} {problem}.", {f"/path/{parameter}": problem})


def _wrong_project(problem: str) -> BadRequest:
    return BadRequest(f"project_id {problem}.", {"/body/project_id": problem})
