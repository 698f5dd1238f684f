"""Which changes take a publisher, and which a role without restrictions.

A publisher is needed for what runs: to start or stop it, and to change it while it runs. In an environment without
`has_restricted_permissions` an editor may do so too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.environments import environments_of_project
from optimizely_api.gateway.roles import PUBLISH, RoleMissing, check_project
from optimizely_api.upstream import calls

Entity = Mapping[str, Any]

RUNNING = frozenset(("running", "campaign_paused"))
EXTENSION = "extension"
PRIMARY = ""  # stands for the key of the primary environment


async def check_write(request: Request, definition: str, body: Entity, before: Entity | None) -> None:
    """Raise RoleMissing unless the user may make this entity of `body`, or change it from `before`."""
    if request.identity.roles is None:
        return
    project_id: int = (before or body).get("project_id", 0)
    role = request.identity.roles.get(project_id)
    if role is None or request.least_role > PUBLISH:
        return  # the operation takes more than a publisher, and its least role has been checked
    if role.is_restricted and not all(kind == EXTENSION for kind in _change_types(body)):
        raise RoleMissing(f"The token's user is {role.text} of project {project_id}: only by extensions.")
    if role < PUBLISH and await _takes_a_publisher(request, definition, body, before, project_id):
        await check_project(request, project_id, PUBLISH)


def _change_types(body: Any) -> Iterator[Any]:
    """The type of each change of a page in a body, wherever it is."""
    if isinstance(body, list):
        for item in body:
            yield from _change_types(item)
    elif isinstance(body, Mapping):
        for name, value in body.items():
            if name == "changes" and isinstance(value, list):
                yield from (item.get("type") for item in value if isinstance(item, Mapping))
            else:
                yield from _change_types(value)


async def _takes_a_publisher(
    request: Request, definition: str, body: Entity, before: Entity | None, project_id: int
) -> bool:
    action = request.swagger_data.get("action")
    if action == "unarchive":
        return True
    changed: set[str] = set()
    if definition in ("Experiment", "Campaign"):
        changed = _of_what_runs(body, before, action)
    elif definition == "Section":
        changed = _running(await _experiment(request, (before or body)["experiment_id"]))
    elif definition == "Feature":
        changed = _of_rollouts(body, before)
    if not changed:
        return False
    environments = await environments_of_project(request, project_id)
    open_ones = {one.key for one in environments if not one.is_restricted}
    primary = {one.key for one in environments if one.is_primary}
    return not all(primary & open_ones if key == PRIMARY else key in open_ones for key in changed)


def _of_what_runs(body: Entity, before: Entity | None, action: str | None) -> set[str]:
    """The environments in which a write starts, stops or changes an experiment or a campaign."""
    changed = {PRIMARY} if action else set()
    statuses = _statuses(before)
    changed |= {key for key, status in _statuses(body).items() if status != statuses.get(key, "not_started")}
    return changed if before is None or not body else changed | _running(before)


def _running(entity: Entity) -> set[str]:
    """The environments in which it runs."""
    running = {key for key, status in _statuses(entity).items() if status in RUNNING}
    return running | ({PRIMARY} if entity.get("status") in RUNNING else set())


def _statuses(entity: Entity | None) -> dict[str, Any]:
    environments = (entity or {}).get("environments") or {}
    return {key: value["status"] for key, value in environments.items() if value.get("status")}


def _of_rollouts(body: Entity, before: Entity | None) -> set[str]:
    """The environments in which a write turns a feature on or off, or changes for whom it is on."""
    stored = (before or {}).get("environments") or {}
    return {
        key
        for key, value in (body.get("environments") or {}).items()
        if _differs(value.get("rollout_rules") or [], stored.get(key, {}).get("rollout_rules") or [])
    }


def _differs(sent: list[Entity], stored: list[Entity]) -> bool:
    if not stored:
        return any(rule.get("enabled") for rule in sent)
    return len(sent) != len(stored) or any(
        rule.get(name) != value
        for rule, new in zip(stored, sent, strict=True)
        for name, value in new.items()
        if name in rule
    )


async def _experiment(request: Request, experiment_id: int) -> Entity:
    experiment: Entity = await request.fetch(calls.get_experiment(experiment_id))
    return experiment
