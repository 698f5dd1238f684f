"""List attributes: uploaded lists of values that visitors are looked up in."""

from itertools import count
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import check_for_the_web
from optimizely_api.gateway.resource import Resource, operation

LIST_ATTRIBUTES = Resource("ListAttribute", "experiments")
AT_ONCE = 1000  # as many as the service gives


@operation
async def list_list_attributes(request: Request) -> list[Any]:
    """All of the project's: this list is not divided into pages for the caller, only for the service."""
    query, found = request.swagger_data, list[Any]()
    for page in count(1):
        request.swagger_data = {**query, "page": page, "per_page": AT_ONCE}
        part = await LIST_ATTRIBUTES.list(request)
        request.response.headers.pop("Link", None)
        found += part
        if len(part) < AT_ONCE:
            break
    return found


@operation
async def create_list_attribute(request: Request) -> dict[str, Any]:
    await check_for_the_web(request)
    return await LIST_ATTRIBUTES.create(request)


@operation
async def get_list_attribute(request: Request) -> dict[str, Any]:
    return await LIST_ATTRIBUTES.get(request)


@operation
async def update_list_attribute(request: Request) -> dict[str, Any]:
    return await LIST_ATTRIBUTES.update(request)


@operation
async def archive_list_attribute(request: Request) -> None:
    await LIST_ATTRIBUTES.archive(request)
