"""Environments: where the code of a project runs, each with a datafile of its own."""

from collections.abc import Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation


class Environments(Resource):
    """Environments, whose datafiles lie at an address of the gateway."""

    def shown(self, request: Request, entity: Mapping[str, Any]) -> dict[str, Any]:
        shown = super().shown(request, entity)
        url = f"{request.application_url}/datafiles/{shown['datafile']['sdk_key']}.json"
        return {**shown, "datafile": {**shown["datafile"], "url": url}}


ENVIRONMENTS = Environments("Environment", "projects")


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
