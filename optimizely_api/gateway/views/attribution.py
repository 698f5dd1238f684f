"""Attribution: which experiments a visitor was in, from the decisions that the visitor's events told."""

from typing import Any

from pyramid.request import Request

from optimizely_api.contract.times import read_time
from optimizely_api.gateway.errors import BadRequest
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import operation
from optimizely_api.gateway.views.experiments import EXPERIMENTS
from optimizely_api.gateway.views.impressions_usage import check_own_account
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Page

Json = dict[str, Any]


@operation
async def get_bucketing_history(request: Request) -> Json:
    query, page = request.swagger_data, requested_page(request)
    await check_own_account(request)
    account_id, visitor_id = query["account_id"], query["visitor_id"]
    if "\0" in visitor_id:
        problem = "must not hold the character U+0000"
        raise BadRequest(f"visitor_id {problem}.", {"/path/visitor_id": problem})
    interval = {name: _milliseconds(query[name]) for name in ("start_time", "end_time") if query[name]}
    found = await request.fetch(calls.list_decisions(account_id, visitor_id, interval, page))
    decisions = linked_items(request, page, found)
    experiments = await _experiments(request, [one["experiment_id"] for one in decisions])
    return {
        "account_id": account_id,
        "visitor_id": visitor_id,
        # Senders may name any experiment; only those of the account are shown.
        "bucketing_history": [
            {**one, "campaign_id": experiments[one["experiment_id"]]["campaign_id"]}
            for one in decisions
            if one["experiment_id"] in experiments
        ],
    }


async def _experiments(request: Request, ids: list[int]) -> dict[int, Json]:
    """Those of the ids that are experiments of the account, which are as many as a page has at most."""
    if not ids:
        return {}
    wanted = {"id": ids, "include_classic": True}
    call = calls.list_entities(EXPERIMENTS.collection, request.identity.account_id, Page(1, len(ids)), wanted)
    return {one["id"]: one for one in (await request.fetch(call))["items"]}


def _milliseconds(moment: Any) -> int:
    """A time of the query, in milliseconds since 1970."""
    return int((read_time(moment) if isinstance(moment, str) else moment).timestamp() * 1000)
