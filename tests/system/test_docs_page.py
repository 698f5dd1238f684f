"""The docs page in a real browser, before the running gateway, talking to nobody else."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from optimizely_api.contract import load
from tests.system.conftest import Stack

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium itself asks its maker's hosts for updates and the like unless told not to.
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture
def page() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")  # which CI takes for a failure
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser.new_page(viewport={"width": 1280, "height": 1600})
        browser.close()


def authorize(page: Any, token: str) -> None:
    page.locator(".btn.authorize").click()
    page.locator(".auth-container input").fill(token)
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()


def test_try_it_out_gets_the_results_of_a_real_experiment(stack: Stack, page: Any, tmp_path: Any) -> None:
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(stack.docs)
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock-summary-path").count() == len(load().operations)

    authorize(page, stack.token)
    block = page.locator("#operations-Experiments-get_experiment_results")
    block.locator(".opblock-summary-control").click()
    block.locator(".try-out__btn").click()
    block.locator("tr[data-param-name=experiment_id] input").fill(stack.experiment_id)
    block.locator(".execute").click()
    answer = block.locator(".live-responses-table")
    answer.locator("tbody .response-col_status").wait_for()
    page.screenshot(path=os.environ.get("DOCS_SCREENSHOT", str(tmp_path / "docs.png")), full_page=True)

    assert answer.locator("tbody .response-col_status").inner_text().startswith("200")
    assert stack.experiment_id in answer.inner_text()
    assert {url for url in requested if not url.startswith((f"{stack.url}/", "data:"))} == set()
    assert complaints == []


def test_the_token_is_forgotten_when_the_page_is_left(stack: Stack, page: Any) -> None:
    page.goto(stack.docs)
    authorize(page, stack.token)
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    page.reload()
    page.locator(".btn.authorize.unlocked").wait_for()
