"""The environments of a project, whose keys the maps of features name."""

from dataclasses import dataclass

from pyramid.request import Request

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Collection, Page

ENVIRONMENTS = Collection("projects", "/environments", "Environment", "environment")
MOST = Page(1, 100)  # of one project


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
    found = await request.fetch(
        calls.list_entities(
            ENVIRONMENTS, request.identity.account_id, MOST, {"project_id": project_id, "archived": False}
        )
    )
    return [
        Environment(item["key"], item["is_primary"], item["id"])
        for item in sorted(found["items"], key=lambda item: item.get("priority", 0))
    ]
