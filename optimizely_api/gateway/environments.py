"""The environments of a project, whose keys the maps of features and experiments name."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from pyramid.request import Request

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Collection, Page

ENVIRONMENTS = Collection("projects", "/environments", "Environment", "environment")
PAGE_SIZE = 100
AT_ONCE = 10  # projects


@dataclass(frozen=True, slots=True)
class Environment:
    """What a feature or an experiment needs to know of one of its project's environments."""

    key: str
    is_primary: bool
    id: int | None = None
    is_restricted: bool = True  # to publishers, as to what runs in it

    @property
    def shown(self) -> dict[str, object]:
        return {"is_primary": self.is_primary, **({} if self.id is None else {"id": self.id})}


async def all_environments(request: Request, project_id: int) -> list[dict[str, Any]]:
    """Return all environments of a project as its service has them, archived ones included."""
    found: list[dict[str, Any]] = []
    for number in count(1):
        page = Page(number, PAGE_SIZE)
        call = calls.list_entities(
            ENVIRONMENTS, request.identity.account_id, page, {"project_id": project_id}
        )
        listed = await request.fetch(call)
        found += listed["items"]
        if number * PAGE_SIZE >= listed["total"]:
            return found
    return found


async def environments_of_project(request: Request, project_id: int) -> list[Environment]:
    """Return those that are not archived, by priority."""
    return (await environments_of_projects(request, [project_id]))[project_id]


async def environments_of_projects(
    request: Request, project_ids: Iterable[int]
) -> dict[int, list[Environment]]:
    """Return, for each project, its environments that are not archived, by priority."""
    found: dict[int, list[dict[str, Any]]] = {project_id: [] for project_id in project_ids}
    account_id, remaining = request.identity.account_id, sorted(found)
    for number in count(1):
        pages = await request.fetch_all(
            [
                calls.list_entities(
                    ENVIRONMENTS,
                    account_id,
                    Page(number, PAGE_SIZE),
                    {"project_id": project_id, "archived": False},
                )
                for project_id in remaining
            ],
            at_most=AT_ONCE,
        )
        for project_id, page in zip(remaining, pages, strict=True):
            found[project_id] += page["items"]
        remaining = [
            project_id
            for project_id, page in zip(remaining, pages, strict=True)
            if number * PAGE_SIZE < page["total"]
        ]
        if not remaining:
            break
    return {project_id: _by_priority(items) for project_id, items in found.items()}


def _by_priority(items: list[dict[str, Any]]) -> list[Environment]:
    return [
        Environment(
            item["key"], item["is_primary"], item["id"], item.get("has_restricted_permissions", False)
        )
        for item in sorted(items, key=lambda item: item.get("priority", 0))
    ]
