"""Attributes: what is known of visitors, for audiences and for segments of results."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import WEB
from optimizely_api.gateway.resource import Entity, Resource, operation, visible_project


class Attributes(Resource):
    """Attributes, which have a name beside their key only in projects for the web."""

    async def prepared(self, request: Request, body: Entity, before: Entity | None) -> Entity:
        """The body with the key as the name, where SDKs know attributes by nothing else."""
        old = before or {}
        if "name" not in body and "key" not in body:
            return body
        # The service does not know projects.
        project = await visible_project(request, (old or body)["project_id"])
        is_for_the_web = project.get("platform", WEB) == WEB
        return body if is_for_the_web else {**body, "name": body.get("key", old.get("key"))}


ATTRIBUTES = Attributes("Attribute", "experiments")


@operation
async def list_attributes(request: Request) -> list[Any]:
    return await ATTRIBUTES.list(request)


@operation
async def create_attribute(request: Request) -> dict[str, Any]:
    return await ATTRIBUTES.create(request)


@operation
async def get_attribute(request: Request) -> dict[str, Any]:
    return await ATTRIBUTES.get(request)


@operation
async def update_attribute(request: Request) -> dict[str, Any]:
    return await ATTRIBUTES.update(request)


@operation
async def delete_attribute(request: Request) -> None:
    await ATTRIBUTES.archive(request)
