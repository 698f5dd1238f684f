"""The user that a token acts as: who am I."""

from itertools import count
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import operation
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Page

AT_ONCE = 1000  # as many as the service gives
ADMINISTRATOR = "administrator"


@operation
async def get_me(request: Request) -> dict[str, Any]:
    identity, query = request.identity, request.swagger_data
    wanted = {name for text in query["expand"] or () for name in text.split(",")}
    account: dict[str, Any] = {"id": identity.account_id}
    if query["include_features"] or "current_account.features" in wanted:
        account["features"] = {}
    me: dict[str, Any] = {"current_account": account}
    if identity.user_id:
        first_name, last_name = identity.names
        names = {"first_name": first_name, "last_name": last_name, "profile_image": ""}
        me |= {"id": identity.user_id, "profile": {"email": identity.email, **names}}
    if "accounts" in wanted:
        known = await request.fetch(calls.get_account(identity.account_id))
        me["accounts"] = [{"id": known["id"], "name": known["name"]}]
    if "project_roles" in wanted:
        me["project_roles"] = await _project_roles(request)
    return me


async def _project_roles(request: Request) -> list[dict[str, Any]]:
    roles = request.identity.roles
    if roles is not None:
        return [{"project_id": number, "role": roles[number].text} for number in sorted(roles)]
    return [{"project_id": number, "role": ADMINISTRATOR} for number in await _all_projects(request)]


async def _all_projects(request: Request) -> list[int]:
    found: list[int] = []
    for number in count(1):
        call = calls.list_projects(request.identity.account_id, Page(number, AT_ONCE))
        items = (await request.fetch(call))["items"]
        found += [item["id"] for item in items]
        if len(items) < AT_ONCE:
            break
    return found
