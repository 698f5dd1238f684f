"""Recommendations: the files that a recommender left in a folder, by account, catalog and day."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyramid.response import Response

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.contract.conftest import make_router
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.services_double import ServicesDouble

CATALOG = "/v2/recommendations/catalogs/42"
ADDRESSES = {
    "catalog/2026-01-31": "catalog/2026-01-31.csv",
    "stats/2026-01-31": "stats/2026-01-31.csv",
    "recommenders/7/2026-01-31": "recommenders/7/2026-01-31.csv",
}


@pytest.fixture(scope="module")
def app(running_services: ServicesDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("recommendations")
    for place in ADDRESSES.values():
        write(folder / str(samples.ACCOUNT) / "42" / place, f"item,score\n{place},0.5\n")
    settings = {**running_services.settings(), "recommendations_folder": str(folder)}
    with GatewayTestApp(main({}, **settings)) as opened:
        yield opened


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


@pytest.mark.parametrize("address", ADDRESSES)
def test_200_the_file_of_the_day_as_csv(app: Any, services: Any, address: str) -> None:
    response = get(app, f"{CATALOG}/{address}")
    assert response.content_type == "text/csv"
    assert response.text == f"item,score\n{ADDRESSES[address]},0.5\n"


def test_304_while_the_file_does_not_change(app: Any, services: Any) -> None:
    address = f"{CATALOG}/catalog/2026-01-31"
    etag = get(app, address).headers["ETag"]
    get(app, address, 304, **{"If-None-Match": etag})


@pytest.mark.parametrize(
    "address", ["catalog/2026-02-01", "recommenders/8/2026-01-31", f"recommenders/{'8' * 300}/2026-01-31"]
)
def test_404_without_a_file_of_that_day(app: Any, services: Any, address: str) -> None:
    response = app.get(f"{CATALOG}/{address}", headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 404, "not_found", address[:20])


@pytest.mark.parametrize("date", ["2026-02-30", "today", "2026-01-31.csv"])
def test_400_for_a_date_that_is_none(app: Any, services: Any, date: str) -> None:
    response = app.get(f"{CATALOG}/catalog/{date}", headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/path/date"]


def test_400_for_a_catalog_that_is_no_number(app: Any, services: Any) -> None:
    response = app.get(f"{CATALOG}x/catalog/2026-01-31", headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/path/catalog_id"]


def test_404_for_an_account_without_a_folder_says_what_to_set(app: Any, services: Any) -> None:
    other = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
    response = app.get(f"{CATALOG}/catalog/2026-01-31", headers=other, expect_errors=True)
    assert_error(response, 404, "not_found", "recommendations_folder")


def test_404_where_no_folder_is_set(gateway: Any) -> None:
    response = gateway.get(f"{CATALOG}/catalog/2026-01-31", headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 404, "not_found", "recommendations_folder")


def test_500_for_a_file_of_another_media_type() -> None:
    views = {"get_recs_catalog_csv": lambda request: Response(b"<p>", content_type="text/html")}
    with GatewayTestApp(make_router(views)) as app:
        assert app.get(f"{CATALOG}/catalog/2026-01-31", expect_errors=True).status_int == 500
