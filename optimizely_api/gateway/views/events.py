"""Events: what visitors do, and what metrics count."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.platforms import check_address_for_the_web
from optimizely_api.gateway.resource import Resource, operation, visible_project
from optimizely_api.gateway.views.pages import PAGES

EVENTS = Resource("Event", "experiments")


@operation
async def list_events(request: Request) -> list[Any]:
    return await EVENTS.list(request, "include_classic")


@operation
async def get_event(request: Request) -> dict[str, Any]:
    return await EVENTS.get(request)


# Custom events: your code reports them by their key.


@operation
async def create_custom_event(request: Request) -> dict[str, Any]:
    return await EVENTS.create(request, **await _custom(request))


@operation
async def update_custom_event(request: Request) -> dict[str, Any]:
    return await EVENTS.update(request, **await _custom(request))


@operation
async def delete_custom_event(request: Request) -> None:
    await EVENTS.archive(request, **await _custom(request))


# Click events: the web snippet notices them on a page.


@operation
async def create_in_page_event(request: Request) -> dict[str, Any]:
    event = await _in_page(request)
    await check_address_for_the_web(request, event["project_id"])
    return await EVENTS.create(request, **event)


@operation
async def update_in_page_event(request: Request) -> dict[str, Any]:
    return await EVENTS.update(request, **await _in_page(request))


@operation
async def delete_in_page_event(request: Request) -> None:
    await EVENTS.archive(request, **await _in_page(request))


async def _custom(request: Request) -> dict[str, Any]:
    """Return the members of a custom event of the project in the address."""
    project = await visible_project(request, request.swagger_data["project_id"])
    return {"project_id": project["id"], "event_type": "custom"}


async def _in_page(request: Request) -> dict[str, Any]:
    """Return the members of a click event on the page in the address."""
    page = await PAGES.visible(request)
    return {"project_id": page["project_id"], "page_id": page["id"], "event_type": "click"}
