"""The docs page: Swagger UI in a real browser, talking to nobody but the gateway."""

import gzip
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from webob import Request

from optimizely_api.contract import load
from optimizely_api.contract.docs import SAFETY
from tests.contract.conftest import make_router

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium itself asks its maker's hosts for updates and the like unless told not to.
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
RESULTS = load().document["definitions"]["ExperimentResults"]["example"]


def test_the_page_is_made_of_files_of_its_own_origin(app_with: Any) -> None:
    app = app_with()
    page = app.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) >= 6
    for address in addresses:
        assert app.get(f"/{address}").status_int == 200
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=", page)


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css"])
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

    zipped, plain = get("gzip, br"), get("gzip;q=0")
    assert gzip.decompress(zipped.body) == plain.body == get(None).body
    assert (zipped.content_encoding, plain.content_encoding) == ("gzip", None)
    assert len(zipped.body) < len(plain.body) / 3
    assert zipped.etag != plain.etag


@pytest.mark.parametrize("path", ["/docs/swagger-ui.js.map", "/docs/..%2Fdocs.py", "/docs/x/y"])
def test_404_for_any_other_file(app_with: Any, path: str) -> None:
    assert app_with().get(path, expect_errors=True).status_int == 404


def test_a_slash_at_the_end_leads_back_to_the_page(app_with: Any) -> None:
    response = app_with().get("/docs/", status=308)
    assert response.headers["Location"].endswith("/docs")


# ---- in the browser


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[str, list[Any]]]:
    """The application on a free port; returns its address and the requests for results it got."""
    asked: list[Any] = []

    def results(request: Any) -> Any:
        asked.append((request.headers.get("Authorization"), dict(request.swagger_data)))
        return RESULTS

    router = make_router({"get_experiment_results": results}, blocking=True)
    server = make_server("127.0.0.1", 0, router, server_class=WSGIServer, handler_class=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser.new_page(viewport={"width": 1280, "height": 1600})
        browser.close()


@pytest.mark.slow
def test_the_page_works_in_a_browser(served: tuple[str, list[Any]], page: Any, tmp_path: Path) -> None:
    """It lists the operations; Authorize takes the bare token; Try it out gets results; no other host is asked."""
    address, asked = served
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(f"{address}/docs")
    page.wait_for_selector(".opblock")
    shown = page.locator(".opblock-summary-path").all_text_contents()
    assert len(shown) == len(load().operations)

    page.locator(".btn.authorize").click()
    page.locator(".auth-container input").fill("2:secret")
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()

    block = page.locator("#operations-Experiments-get_experiment_results")
    block.locator(".opblock-summary-control").click()
    block.locator(".try-out__btn").click()
    block.locator("tr[data-param-name=experiment_id] input").fill("10000000011")
    block.locator("tr[data-param-name=browser] select").select_option("firefox")
    block.locator(".execute").click()
    block.locator(".live-responses-table tbody .response-col_status").wait_for()
    page.screenshot(path=os.environ.get("DOCS_SCREENSHOT", str(tmp_path / "docs.png")), full_page=True)

    assert block.locator(".live-responses-table tbody .response-col_status").inner_text().startswith("200")
    assert "10000000062" in block.locator(".live-responses-table").inner_text()
    [(authorization, parameters)] = asked
    assert authorization == "Bearer 2:secret"
    assert (parameters["experiment_id"], parameters["browser"]) == (10000000011, "firefox")
    assert {url for url in requested if not url.startswith((f"{address}/", "data:"))} == set()
    assert complaints == []


@pytest.mark.slow
def test_the_token_is_forgotten_when_the_page_is_left(served: tuple[str, list[Any]], page: Any) -> None:
    page.goto(f"{served[0]}/docs")
    page.locator(".btn.authorize").click()
    page.locator(".auth-container input").fill("2:secret")
    page.locator(".auth-btn-wrapper .authorize").click()
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    page.reload()
    page.locator(".btn.authorize.unlocked").wait_for()
