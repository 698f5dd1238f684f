"""Attributes: what is known of visitors, for audiences and for segments of results."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation

ATTRIBUTES = Resource("Attribute", "experiments")


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
