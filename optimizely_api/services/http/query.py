"""Values of a request's query and path: pages, integers, truth values, ids, times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from optimizely_api.contract.times import read_time
from optimizely_api.services.http.errors import bad_request, not_found

MAX_ID = 2**53 - 1  # ids stay exact in every JSON reader
DEFAULT_PER_PAGE = 25
MAX_PER_PAGE = 1000
MAX_PAGE = 1_000_000_000


@dataclass(frozen=True)
class Page:
    """A slice of a list: `number` starts at 1."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """The number of items before the page."""
        return (self.number - 1) * self.size


def read_page(request: web.Request) -> Page:
    """`page` and `per_page` of the query; 400 unless they are whole numbers in range."""
    return Page(
        number=read_integer(request, "page", minimum=1, maximum=MAX_PAGE) or 1,
        size=read_integer(request, "per_page", minimum=1, maximum=MAX_PER_PAGE) or DEFAULT_PER_PAGE,
    )


def read_integer(request: web.Request, name: str, *, minimum: int = 1, maximum: int = MAX_ID) -> int | None:
    """An integer of the query, None when absent or empty; 400 otherwise."""
    value = request.query.get(name, "").strip()
    if not value:
        return None
    return _integer(name, value, minimum, maximum)


def read_integers(request: web.Request, name: str) -> list[int]:
    """Every value of a query parameter that may stand there several times; 400 for what is no id."""
    return [_integer(name, text, 1, MAX_ID) for text in read_texts(request, name)]


def read_texts(request: web.Request, name: str) -> list[str]:
    """Every value of a query parameter that may stand there several times, empty ones left out."""
    return [text for text in request.query.getall(name, []) if text]


def read_text(request: web.Request, name: str) -> str:
    """A required parameter as text. Refuses U+0000, which PostgreSQL cannot store."""
    text = request.query.get(name, "")
    if not text or "\0" in text:
        raise bad_request(f"{name} is required, without the character U+0000")
    return text


def read_boolean(request: web.Request, name: str) -> bool | None:
    """A truth value of the query, in upper or lower case; None when absent or empty; 400 otherwise."""
    value = request.query.get(name, "").strip().lower()
    if not value:
        return None
    if value not in {"true", "false", "1", "0"}:
        raise bad_request(f"{name} must be true or false, not {value[:40]!r}")
    return value in {"true", "1"}


def path_id(request: web.Request, name: str) -> int:
    """An id in the path; 404 for text that cannot be an id."""
    value = request.match_info[name]
    if not re.fullmatch(r"[0-9]{1,16}", value) or not 0 < int(value) <= MAX_ID:
        raise not_found(name.removesuffix("_id"), value[:40])
    return int(value)


def _integer(name: str, value: str, minimum: int, maximum: int) -> int:
    number = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None
    if number is None or not minimum <= number <= maximum:
        raise bad_request(f"{name} must be a whole number from {minimum} to {maximum}, not {value[:40]!r}")
    return number


def parse_time(text: Any, name: str = "time") -> datetime:
    """Parse a time as `contract/times.py` does, in UTC; raises a ServiceError (400) that names `name` otherwise."""
    if isinstance(text, str):
        try:
            return read_time(text)
        except (ValueError, OverflowError):  # no such day or hour, or beyond the years 1 to 9999
            pass
    raise bad_request(f"{name} must be an ISO 8601 time such as 2026-01-31T12:00:00Z, not {str(text)[:40]!r}")


def read_at(request: web.Request) -> datetime:
    """The time of a change: now, or the query's `at`.

    `at` is part of the internal interface only (`?at=2026-01-31T12:00:00Z`): with it, history can be loaded, such as an
    experiment that started some weeks ago. 400 when it lies in the future.
    """
    now = datetime.now(UTC)
    if not (text := request.query.get("at", "").strip()):
        return now
    if (moment := parse_time(text, "at")) > now:
        raise bad_request("at must not lie in the future")
    return moment
