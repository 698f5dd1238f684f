"""Who may do what: the roles of users in projects, and the least role that an operation takes.

    READ        viewer                whatever is in the project, its results and exports
    EDIT        (restricted) editor   what experiments are made of; what does not run
    PUBLISH     (restricted) publisher  what runs; archiving experiments and campaigns
    OWN         project owner         the project and its environments, extensions, groups and webhooks; new projects
    ADMINISTER  administrator         what is of the whole account

The rule is `least_role`, by the operation's tag and method; `publishing.py` says which changes take PUBLISH where EDIT
is the least. A token without a user is an administrator's.

`check_project` is called wherever an entity or a project becomes known (`resource.py`), and `roles_tween` where an
operation is of no project. A user who lacks a role is asked about once more, so that a new role counts at once; one
that was taken away counts for at most `identity_cache_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract import CONTRACT
from optimizely_api.contract.load import Operation
from optimizely_api.gateway import BLOCKING, add_tween
from optimizely_api.gateway.contract.compiled import known_route
from optimizely_api.gateway.errors import GatewayError
from optimizely_api.runtime import synchronize

if TYPE_CHECKING:
    from optimizely_api.gateway.identity import Identity

Handler = Callable[[Request], Response]

RENEW = "optimizely_api.gateway.renew_identity"  # on the registry: a coroutine function of a request


class Role(IntEnum):
    """A user's role in a project; each may do what those below it may."""

    VIEWER = 1
    RESTRICTED_EDITOR = 2
    EDITOR = 3
    RESTRICTED_PUBLISHER = 4
    PUBLISHER = 5
    PROJECT_OWNER = 6
    ADMINISTRATOR = 7

    @property
    def is_restricted(self) -> bool:
        """Whether it changes pages by extensions only."""
        return self in (Role.RESTRICTED_EDITOR, Role.RESTRICTED_PUBLISHER)

    @property
    def text(self) -> str:
        """Its name in the contract."""
        return self.name.lower()


READ, EDIT, PUBLISH = Role.VIEWER, Role.RESTRICTED_EDITOR, Role.RESTRICTED_PUBLISHER
OWN, ADMINISTER = Role.PROJECT_OWNER, Role.ADMINISTRATOR

OF_ADMINISTRATORS = frozenset(
    (
        *("Plan", "Impressions Usage", "Subject Access Requests", "Collaborators"),
        # Credentials open the events, and a visitor's history the decisions, of all projects.
        *("Export Credentials", "Attribution"),
    )
)
OF_OWNERS = frozenset(("Projects", "Environments", "Extensions", "Groups", "Webhooks"))
THAT_RUN = frozenset(("Experiments", "Campaigns"))
# Of no project in particular: the least role is needed in one, whichever.
IN_ANY_PROJECT = frozenset(
    ("create_project", "get_recs_catalog_csv", "get_recs_stats_csv", "get_recs_output_csv")
)


def least_role(operation: Operation) -> Role:
    """The least role in a project, or in the account, that an operation takes."""
    (tag, *_) = operation.spec["tags"]
    if tag in OF_ADMINISTRATORS:
        return ADMINISTER
    if operation.method == "GET":
        return READ
    if tag in OF_OWNERS:
        return OWN
    return PUBLISH if operation.method == "DELETE" and tag in THAT_RUN else EDIT


class RoleMissing(GatewayError):
    """403: the user of the token has no role that allows it."""

    def __init__(self, message: str) -> None:
        super().__init__("forbidden", message)


def check_role(identity: Identity, needed: Role, project_id: int) -> None:
    """Raise RoleMissing unless the user has the role in the project, or a higher one."""
    if identity.roles is None:
        return
    role = identity.roles.get(project_id)
    if role is None:
        raise RoleMissing(f"The token's user has no role in project {project_id}.")
    if role < needed:
        raise RoleMissing(
            f"The token's user is {role.text} of project {project_id}; this takes a {needed.text}."
        )


async def check_project(request: Request, project_id: int, needed: Role | None = None) -> None:
    """As `check_role`, for the operation's least role if none is given, and with the roles of this moment."""
    if request.identity.roles is None:
        return
    needed = request.least_role if needed is None else needed
    try:
        check_role(request.identity, needed, project_id)
    except RoleMissing:
        check_role(await request.registry[RENEW](request), needed, project_id)


def projects_of(request: Request) -> list[int] | None:
    """The projects that the token's user has a role in; None for all of the account."""
    roles: Mapping[int, Role] | None = request.identity.roles
    return None if roles is None else sorted(roles)


def roles_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Tell a user's request its operation's least role; respond with 403 where no project could make a difference."""
    least = {name: least_role(operation) for name, operation in registry[CONTRACT].operations.items()}
    renew = None if registry.get(BLOCKING) else synchronize(_renew)

    def roles_tween(request: Request) -> Response:
        identity = request.identity
        if identity is None or identity.roles is None or (route := known_route(request)) is None:
            return handler(request)
        request.least_role = needed = least[route.name]
        if needed is ADMINISTER:
            raise RoleMissing("This is for administrators of the account; the token's user is none.")
        if route.name in IN_ANY_PROJECT and not (
            _has_anywhere(identity, needed) or (renew is not None and _has_anywhere(renew(request), needed))
        ):
            raise RoleMissing(f"The token's user is {needed.text} of no project.")
        return handler(request)

    return roles_tween


def _has_anywhere(identity: Any, needed: Role) -> bool:
    return identity.roles is None or any(role >= needed for role in identity.roles.values())


async def _renew(request: Request) -> Any:
    return await request.registry[RENEW](request)


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.roles_tween_factory")
