"""What holds for every list of the contract that is divided into pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from optimizely_api.contract.load import load
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import RealServices

LARGEST = 2**53 - 1
WORDS = {"query": "", "usage_date_from": "2026-01-01", "usage_date_to": "2026-12-31"}


def lists() -> Iterator[Any]:
    for name, operation in load().operations.items():
        is_list = operation.spec["responses"].get("200", {}).get("schema", {}).get("type") == "array"
        if is_list and any(one["name"] == "per_page" for one in operation.spec.get("parameters", ())):
            yield pytest.param(operation, id=name)


LISTS = list(lists())


def address(operation: Any, ids: dict[str, int], **query: int) -> str:
    """The operation's address, with what it requires."""
    named = [
        one["name"] for one in operation.spec["parameters"] if one.get("required") and one["in"] == "query"
    ]
    known = {**WORDS, **ids}
    return (
        f"{operation.path.format_map(known)}?{urlencode({**{name: known[name] for name in named}, **query})}"
    )


@pytest.fixture
def known(real_stack: RealServices) -> dict[str, int]:
    return {**real_stack.ids, "account_id": real_stack.account_id}


@pytest.mark.parametrize("operation", LISTS)
def test_200_beyond_the_end_with_a_link_back(
    real_app: GatewayTestApp, known: dict[str, int], operation: Any
) -> None:
    response = real_app.get(address(operation, known, page=LARGEST, per_page=100), headers=AUTHORIZED)
    assert response.json == []
    assert "rel=prev" in response.headers["Link"]
    assert "rel=next" not in response.headers["Link"]


@pytest.mark.parametrize("operation", LISTS)
def test_400_for_pages_out_of_bounds(real_app: GatewayTestApp, known: dict[str, int], operation: Any) -> None:
    for query in ({"page": 0}, {"per_page": 0}, {"per_page": 101}):
        response = real_app.get(address(operation, known, **query), headers=AUTHORIZED, expect_errors=True)
        assert_error(response, 400, "bad_request")
