"""The history of changes of a project's entities. Their records are the services', their addresses the gateway's."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation

CHANGES = Resource("ChangeHistoryChange", "experiments", noun="change", path="/changes")
WITHOUT_ADDRESS = frozenset({"section"})  # whose address names its experiment too, which a record does not
FILTERS = ("id", "start_time", "end_time", "user", "entity_type", "source", "entity")


@operation
async def list_change_history(request: Request) -> list[Any]:
    changes = await CHANGES.list(request, *FILTERS)
    api, docs = request.path_url.removesuffix("/changes"), f"{request.application_url}/docs"
    return [{**change, "entity": _with_addresses(change["entity"], api, docs)} for change in changes]


def _with_addresses(entity: dict[str, Any], api: str, docs: str) -> dict[str, Any]:
    if entity["type"] in WITHOUT_ADDRESS:
        return {**entity, "ui_url": docs}
    return {**entity, "api_url": f"{api}/{entity['type']}s/{entity['id']}", "ui_url": docs}
