"""The environments of a project, whose keys the maps of features name."""

from dataclasses import dataclass

from pyramid.request import Request


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
    """Those that are not archived, by priority; until environments can be listed, the one that every project has."""
    return [Environment("production", is_primary=True)]
