"""Audiences: groups of visitors, by conditions, that experiments are shown to."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import platform_of_body
from optimizely_api.gateway.resource import Resource, operation

AUDIENCES = Resource("Audience", "experiments")


@operation
async def list_audiences(request: Request) -> list[Any]:
    return await AUDIENCES.list(request)


@operation
async def create_audience(request: Request) -> dict[str, Any]:
    # The service does not know projects, and what conditions may be depends on their platform.
    return await AUDIENCES.create(request, platform=await platform_of_body(request))


@operation
async def get_audience(request: Request) -> dict[str, Any]:
    return await AUDIENCES.get(request)


@operation
async def update_audience(request: Request) -> dict[str, Any]:
    return await AUDIENCES.update(request)
