"""The files of the docs page; tests/system has the page in a real browser."""

import gzip
import re
from typing import Any

import pytest
from webob import Request

from optimizely_api.gateway.contract.docs import SAFETY
from optimizely_api.gateway.errors import CODES
from tests.contract.conftest import make_router


def test_the_page_is_made_of_files_of_its_own_origin(app_with: Any) -> None:
    app = app_with()
    page = app.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) >= 6
    for address in addresses:
        assert app.get(f"/{address}").status_int == 200
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=", page)


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/errors"])
def test_every_file_carries_the_safety_headers(app_with: Any, path: str) -> None:
    headers = app_with().get(path).headers
    assert SAFETY.items() <= dict(headers).items()


def test_scripts_may_neither_be_inline_nor_be_made_from_text() -> None:
    policy = SAFETY["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_browser_that_has_a_file_is_not_sent_it_again(app_with: Any) -> None:
    app = app_with()
    first = app.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["Cache-Control"] == "public, max-age=3600"
    again = {"Accept-Encoding": "gzip", "If-None-Match": first.headers["ETag"]}
    assert app.get("/docs/swagger-ui-bundle.js", headers=again).status_int == 304


def test_files_are_compressed_for_those_who_take_it() -> None:
    router = make_router({}, blocking=True)  # WebTest would unpack the answer

    def get(accept: str | None) -> Any:
        headers = {} if accept is None else {"Accept-Encoding": accept}
        return Request.blank("/docs/swagger-ui-bundle.js", headers=headers).get_response(router)

    zipped, plain = get("gzip"), get("gzip;q=0")
    assert gzip.decompress(zipped.body) == plain.body == get(None).body
    assert (zipped.content_encoding, plain.content_encoding) == ("gzip", None)
    assert len(zipped.body) < len(plain.body) / 3
    assert zipped.etag != plain.etag
    assert zipped.vary == plain.vary == ("Accept-Encoding",)


def test_files_come_in_the_coding_that_any_other_answer_would_come_in() -> None:
    router = make_router({}, blocking=True)
    request = Request.blank("/docs/swagger-ui.css", headers={"Accept-Encoding": "gzip, br, zstd"})
    assert request.get_response(router).content_encoding == "zstd"


@pytest.mark.parametrize("path", ["/docs/swagger-ui.js.map", "/docs/..%2Fdocs.py", "/docs/x/y"])
def test_404_for_any_other_file(app_with: Any, path: str) -> None:
    assert app_with().get(path, expect_errors=True).status_int == 404


def test_the_page_of_errors_has_every_code_and_a_place_for_every_status(app_with: Any) -> None:
    page = app_with().get("/docs/errors")
    assert page.content_type == "text/html"
    listed = dict(re.findall(r"<td><code>(\w+)</code></td>\s*<td>(\d+)</td>", page.text))
    assert listed == {code: str(status) for code, status in CODES.items()}
    assert re.findall(r'<tr id="(\d+)">', page.text) == sorted(set(listed.values()))


def test_a_slash_at_the_end_leads_back_to_the_page(app_with: Any) -> None:
    response = app_with().get("/docs/", status=308)
    assert response.headers["Location"].endswith("/docs")
