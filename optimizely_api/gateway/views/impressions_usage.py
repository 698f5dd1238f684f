"""Impressions that an account is billed by: by experiment between two days, and together in the calendar year."""

from datetime import UTC, date, datetime
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.errors import BadRequest, Forbidden
from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import operation
from optimizely_api.gateway.usage import Usage, usage_of_account
from optimizely_api.gateway.views.plan import this_year
from optimizely_api.upstream import calls


@operation
async def get_impressions_usage_request(request: Request) -> list[Any]:
    query = request.swagger_data
    await check_own_account(request)
    usages = await usage_of_account(request, *_days(query))
    chosen = [usage for usage in usages if _is_wanted(usage, query)]
    sign = 1 if query["order"] == "asc" else -1
    chosen.sort(key=lambda usage: (sign * usage["impression_count"], usage["experiment_id"]))
    page = requested_page(request)
    start = (page.number - 1) * page.size
    listed = {"total": len(chosen), "items": chosen[start : start + page.size]}
    return linked_items(request, page, listed)


@operation
async def get_impressions_usage_summary_request(request: Request) -> dict[str, Any]:
    await check_own_account(request)
    now, allowance = datetime.now(UTC), request.registry["settings"].impressions_allowance
    first, last = this_year(now)
    usage = sum(item["impression_count"] for item in await usage_of_account(request, first, last))
    percentage = min(100.0, round(100 * usage / allowance, 2)) if allowance else 0
    return {
        "usage": usage,
        "allowance": allowance,
        "usage_percentage": percentage,
        "start_date": first.isoformat(),
        "end_date": last.isoformat(),
        "last_update_date": now.date().isoformat(),
    }


async def check_own_account(request: Request) -> None:
    """Raise Forbidden for another account than the caller's, and EntityNotFound when there is none of this id."""
    account_id = request.swagger_data["account_id"]
    if account_id != request.identity.account_id:
        await request.fetch(calls.get_account(account_id))
        raise Forbidden(f"account {account_id}")


def _is_wanted(usage: Usage, query: Any) -> bool:
    named = (str(usage["experiment_id"]), str(usage["project_id"]))
    return usage["platform"] in query["platforms"] and query.get("query", "") in ("", *named)


def _days(query: Any) -> tuple[date, date]:
    first, last = (read_day(query[name], f"/query/{name}") for name in ("usage_date_from", "usage_date_to"))
    if first > last:
        problem = f"must not be before usage_date_from, which is {first}"
        raise BadRequest(f"usage_date_to {problem}.", {"/query/usage_date_to": problem})
    return first, last


def read_day(text: str, place: str) -> date:
    """Read a day of the calendar; raises BadRequest, with the place, for a date that does not exist."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        problem = "must be a date such as 2026-01-31"
        raise BadRequest(f"{place.rsplit('/', 1)[1]} {problem}.", {place: problem}) from None
