"""Environments: where the code of a project runs, each with a datafile of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.datafiles import KEPT, Datafile, register
from optimizely_api.gateway.errors import NotFound
from optimizely_api.gateway.finishing import READING
from optimizely_api.gateway.resource import Entity, Resource, operation
from optimizely_api.upstream import calls


class Environments(Resource):
    """Environments, whose datafiles lie at an address of the gateway.

    Whatever environment is read or written here is named to the service that builds the datafiles.
    """

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> list[Entity]:
        entities = list(entities)
        written = request.environ["REQUEST_METHOD"] not in READING
        built = await request.fetch_optional(register(request, entities, written=written))
        shown = await super().shown(request, entities)
        return [_with_datafile(request, one, built and built[one["id"]]) for one in shown]

    async def archive(self, request: Request, **within: Any) -> None:
        await super().archive(request, **within)
        environment_id = request.swagger_data["environment_id"]
        archived = await request.fetch(calls.get_entity(self.collection, environment_id, fresh=True))
        await register(request, [archived], written=True)


ENVIRONMENTS = Environments("Environment", "projects")


def _with_datafile(request: Request, environment: Entity, built: Mapping[str, Any] | None) -> Entity:
    datafile = environment["datafile"]
    url = f"{request.application_url}/datafiles/{datafile['sdk_key']}.json"
    # The projects service keeps those of the first datafile, and does not know better.
    kept = {name: value for name, value in datafile.items() if name not in ("revision", "latest_file_size")}
    served = {"revision": built["revision"], "latest_file_size": built["size"]} if built else {}
    return {**environment, "datafile": {**kept, **served, "url": url}}


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


@operation
async def get_datafile(request: Request) -> Response:
    environment = await ENVIRONMENTS.visible(request)
    if environment["archived"]:
        raise NotFound(f"datafile of environment {environment['id']}, which is archived")
    sdk_key = environment["datafile"]["sdk_key"]
    datafile: Datafile = await request.registry[KEPT].get(request, sdk_key)
    headers = [("Content-Type", "application/json"), ("Last-Modified", datafile.last_modified)]
    return Response(datafile.body, headerlist=headers)
