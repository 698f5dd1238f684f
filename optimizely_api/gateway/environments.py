"""The environments of a project, whose keys the maps of features name."""

from dataclasses import dataclass
from itertools import count
from typing import Any

from pyramid.request import Request

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Collection, Page

ENVIRONMENTS = Collection("projects", "/environments", "Environment", "environment")
PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Environment:
    """What a feature shows of one of its project's environments."""

    key: str
    is_primary: bool
    id: int | None = None

    @property
    def shown(self) -> dict[str, object]:
        return {"is_primary": self.is_primary, **({} if self.id is None else {"id": self.id})}


async def environments_of_project(request: Request, project_id: int) -> list[Environment]:
    """Return those that are not archived, by priority."""
    items: list[dict[str, Any]] = []
    chosen = {"project_id": project_id, "archived": False}
    for number in count(1):
        page = Page(number, PAGE_SIZE)
        found = await request.fetch(
            calls.list_entities(ENVIRONMENTS, request.identity.account_id, page, chosen)
        )
        items += found["items"]
        if number * PAGE_SIZE >= found["total"]:
            break
    return [
        Environment(item["key"], item["is_primary"], item["id"])
        for item in sorted(items, key=lambda item: item.get("priority", 0))
    ]
