"""Groups: experiments and campaigns that exclude each other."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation

GROUPS = Resource("Group", "experiments")


@operation
async def list_groups(request: Request) -> list[Any]:
    return await GROUPS.list(request)


@operation
async def create_group(request: Request) -> dict[str, Any]:
    return await GROUPS.create(request)


@operation
async def get_group(request: Request) -> dict[str, Any]:
    return await GROUPS.get(request)


@operation
async def update_group(request: Request) -> dict[str, Any]:
    return await GROUPS.update(request)


@operation
async def delete_group(request: Request) -> None:
    await GROUPS.archive(request)
