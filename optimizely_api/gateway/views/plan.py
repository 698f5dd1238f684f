"""The plan of an account, and what it uses of it in the calendar year."""

from datetime import UTC, date, datetime
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import operation
from optimizely_api.gateway.usage import Usage, usage_of_account

MONTHS_OF_A_TERM = 12


@operation
async def get_plan(request: Request) -> dict[str, Any]:
    settings, now = request.registry["settings"], datetime.now(UTC)
    usages = await usage_of_account(request, *this_year(now))
    return {
        "account_id": request.identity.account_id,
        "plan_name": settings.plan_name,
        "status": "active",
        "unit_of_measurement": "Impressions",
        "product_usages": [_impressions(usages, now, settings.impressions_allowance)],
    }


def this_year(now: datetime) -> tuple[date, date]:
    """The first and the last day of the calendar year, for which allowances hold."""
    return date(now.year, 1, 1), date(now.year, 12, 31)


def _impressions(usages: list[Usage], now: datetime, allowance: int) -> dict[str, Any]:
    projects: dict[str, int] = {}
    for usage in usages:
        project_id = str(usage["project_id"])
        projects[project_id] = projects.get(project_id, 0) + usage["impression_count"]
    return {
        "product_name": "Impressions",
        "allocation_term_in_months": MONTHS_OF_A_TERM,
        "start_time": f"{now.year}-01-01T00:00:00Z",
        "end_time": f"{now.year + 1}-01-01T00:00:00Z",
        # A full minute, so that the ETag changes no more often.
        "last_update_time": f"{now:%Y-%m-%dT%H:%M}:00Z",
        "usage": sum(projects.values()),
        "projects": projects,
        **({"usage_allowance": allowance} if allowance else {}),
    }
