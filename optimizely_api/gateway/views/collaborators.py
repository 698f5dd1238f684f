"""Collaborators: the users of an account, for its administrators."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import operation, visible_project
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Page

AT_ONCE = 1000  # as many as the service gives
NAMES = ("email", "first_name", "last_name")


@operation
async def list_collaborators(request: Request) -> list[Any]:
    """All of them: this list is not divided into pages for the caller, only for the service."""
    account_id, project_ids = request.identity.account_id, request.swagger_data["project_id"] or ()
    for project_id in project_ids:
        await visible_project(request, project_id)
    found: list[dict[str, Any]] = []
    for number in count(1):
        items = (await request.fetch(calls.list_users(account_id, Page(number, AT_ONCE), project_ids)))[
            "items"
        ]
        found += map(_entry, items)
        if len(items) < AT_ONCE:
            break
    return found


def _entry(user: Mapping[str, Any]) -> dict[str, Any]:
    roles = [{"project_id": int(project), "role": role} for project, role in user["roles"].items()]
    everywhere = [{"role": "administrator"}] if user["is_administrator"] else []
    profile = {**{name: user[name] for name in NAMES}, "profile_image": ""}
    return {"id": user["id"], "profile": profile, "project_roles": [*everywhere, *roles]}
