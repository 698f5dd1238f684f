"""Environments: where the code of a project runs, each with a datafile of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Entity, Resource, operation


class Environments(Resource):
    """Environments, whose datafiles lie at an address of the gateway."""

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> list[Entity]:
        return [_with_url(request, environment) for environment in await super().shown(request, entities)]


ENVIRONMENTS = Environments("Environment", "projects")


def _with_url(request: Request, environment: Entity) -> Entity:
    datafile = environment["datafile"]
    url = f"{request.application_url}/datafiles/{datafile['sdk_key']}.json"
    return {**environment, "datafile": {**datafile, "url": url}}


@operation
async def list_environments(request: Request) -> list[Any]:
    return await ENVIRONMENTS.list(request)


@operation
async def create_environment(request: Request) -> dict[str, Any]:
    return await ENVIRONMENTS.create(request)


@operation
async def get_environment(request: Request) -> dict[str, Any]:
    return await ENVIRONMENTS.get(request)


@operation
async def update_environment(request: Request) -> dict[str, Any]:
    return await ENVIRONMENTS.update(request)


@operation
async def delete_environment(request: Request) -> None:
    await ENVIRONMENTS.archive(request)
