"""Extensions: building blocks with fields of their own, that variations insert into pages."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import check_for_the_web
from optimizely_api.gateway.resource import Resource, operation

EXTENSIONS = Resource("Extension", "experiments")


@operation
async def list_extensions(request: Request) -> list[Any]:
    return await EXTENSIONS.list(request)


@operation
async def create_extension(request: Request) -> dict[str, Any]:
    await check_for_the_web(request)
    return await EXTENSIONS.create(request)


@operation
async def get_extension(request: Request) -> dict[str, Any]:
    return await EXTENSIONS.get(request)


@operation
async def update_extension(request: Request) -> dict[str, Any]:
    return await EXTENSIONS.update(request)


@operation
async def delete_extension(request: Request) -> None:
    await EXTENSIONS.archive(request)
