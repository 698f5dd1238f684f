"""Pages: where on a site experiments run and click events happen."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import check_for_the_web
from optimizely_api.gateway.resource import Resource, operation

PAGES = Resource("Page", "experiments")


@operation
async def list_pages(request: Request) -> list[Any]:
    return await PAGES.list(request)


@operation
async def create_page(request: Request) -> dict[str, Any]:
    await check_for_the_web(request)
    return await PAGES.create(request)


@operation
async def get_page(request: Request) -> dict[str, Any]:
    return await PAGES.get(request)


@operation
async def update_page(request: Request) -> dict[str, Any]:
    return await PAGES.update(request)


@operation
async def delete_page(request: Request) -> None:
    await PAGES.archive(request)
