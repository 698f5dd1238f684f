"""Pages of lists, and the Link header that leads from one to the next."""

from typing import Any
from urllib.parse import urlencode

from pyramid.request import Request

from optimizely_api.contract.query import read_query
from optimizely_api.upstream.calls import Page

FARTHEST_PAGE = 1_000_000_000  # no list is that long; a page number beyond it means the same as this one


def requested_page(request: Request) -> Page:
    """The `page` (from 1) and `per_page` (1 to 100) of a list operation; the contract has checked them."""
    query = request.swagger_data
    return Page(min(query["page"], FARTHEST_PAGE), query["per_page"])


def linked_items(request: Request, page: Page, listed: dict[str, Any]) -> list[Any]:
    """Set the Link header for the page of `{"total", "items"}`, and return its items."""
    if link := link_header(request, page, listed["total"]):
        request.response.headers["Link"] = link
    items: list[Any] = listed["items"]
    return items


def link_header(request: Request, page: Page, total: int) -> str:
    """The Link header (RFC 8288) with unquoted relations, which clients in the field match as text; '' on one page."""
    last = max(1, -(-total // page.size))
    relations = {}
    if page.number > 1:
        relations["prev"] = min(page.number - 1, last)
    if page.number < last:
        relations["next"] = page.number + 1
        relations["last"] = last
    return ", ".join(
        f"<{_url(request, number, page.size)}>; rel={name}" for name, number in relations.items()
    )


def _url(request: Request, number: int, size: int) -> str:
    kept = [
        (key, value) for key, value in read_query(request.query_string) if key not in ("page", "per_page")
    ]
    return f"{request.path_url}?{urlencode([*kept, ('page', number), ('per_page', size)])}"
