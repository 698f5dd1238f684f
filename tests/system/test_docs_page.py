"""The docs page in a real browser, before the running gateway, talking to nobody else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from optimizely_api.contract import load
from tests.support.browser import NARROW, WIDE, assert_readable
from tests.system.conftest import Stack

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with browser.new_context(viewport=WIDE) as context:
        yield context.new_page()


def open_docs(page: Any, stack: Stack, fragment: str = "") -> None:
    page.goto(stack.docs + fragment)
    page.wait_for_selector(".opblock-tag")


def find(page: Any, words: str) -> None:
    page.get_by_label("Find operations").fill(words)


def open_operation(page: Any, operation_id: str) -> Any:
    (tag,) = load().operations[operation_id].spec["tags"]
    find(page, operation_id)
    block = page.locator(f"#operations-{tag.replace(' ', '_')}-{operation_id}")
    block.locator(".opblock-summary-control").click()
    block.locator(".samples").wait_for()
    return block


def authorize(page: Any, token: str) -> None:
    page.locator(".btn.authorize").click()
    page.locator(".auth-container input").fill(token)
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()


def test_try_it_out_gets_the_results_of_a_real_experiment_without_typing(
    stack: Stack, page: Any, tmp_path: Any
) -> None:
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    open_docs(page, stack)
    authorize(page, stack.token)
    block = open_operation(page, "get_experiment_results")
    block.locator(".try-out__btn").click()
    block.locator(".execute").click()
    answer = block.locator(".live-responses-table")
    answer.locator("tbody .response-col_status").wait_for()
    page.screenshot(path=os.environ.get("DOCS_SCREENSHOT", str(tmp_path / "docs.png")), full_page=True)

    assert answer.locator("tbody .response-col_status").inner_text().startswith("200")
    assert stack.experiment_id in answer.inner_text()
    assert {url for url in requested if not url.startswith((f"{stack.url}/", "data:"))} == set()
    assert complaints == []


def test_try_it_out_makes_an_entity_of_the_example(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    authorize(page, stack.token)
    block = open_operation(page, "create_group")
    assert "OrderedMap" not in block.inner_text()
    block.locator(".try-out__btn").click()
    block.locator(".execute").click()
    status = block.locator(".live-responses-table tbody .response-col_status")
    status.wait_for()
    assert status.inner_text().startswith("201")


def test_the_token_is_forgotten_when_the_page_is_left(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    authorize(page, stack.token)
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    page.reload()
    page.locator(".btn.authorize.unlocked").wait_for()


def test_a_browser_at_the_root_comes_to_the_page(stack: Stack, page: Any) -> None:
    page.goto(stack.url)
    page.wait_for_selector(".opblock-tag")
    assert page.url.startswith(stack.docs)


def test_it_opens_with_the_tags_and_a_sentence_about_each(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    tags = {tag["name"]: tag["description"] for tag in load().document["tags"]}
    headings = page.locator(".opblock-tag").all()
    assert {one.locator("a").inner_text(): one.locator("small").inner_text() for one in headings} == tags
    assert page.locator(".opblock").count() == 0
    assert page.locator(".filter output").inner_text() == f"{len(load().operations)} operations"
    assert page.locator("section.models.is-open").count() == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("results experiments", {"/experiments/{experiment_id}/results"}),
        ("PATCH /features", {"/features/{feature_id}"}),
        ("create_section", {"/experiments/{experiment_id}/sections"}),
        ("no such thing", set()),
    ],
)
def test_the_filter_opens_the_operations_that_have_all_the_words(
    stack: Stack, page: Any, words: str, found: set[str]
) -> None:
    open_docs(page, stack)
    find(page, words)
    page.locator(".filter output", has_text="found").wait_for()
    paths = {one.get_attribute("data-path") for one in page.locator(".opblock-summary-path").all()}
    assert {path for path in paths if "timeseries" not in path and "csv" not in path} == found


def test_every_operation_is_there_and_what_may_still_change_is_marked(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    find(page, "/")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() == len(load().operations)
    marked = {
        operation.operation_id: operation.spec["x-release-state"]
        for operation in load().operations.values()
        if operation.spec["x-release-state"] != "stable"
    }
    shown = page.locator(".opblock", has=page.locator(".release-state")).all()
    assert {
        one.get_attribute("id").split("-")[-1]: one.locator(".release-state").inner_text() for one in shown
    } == marked


def test_an_operation_shows_which_parts_may_be_missing_and_what_is_then(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    block = open_operation(page, "get_experiment_results")
    shown = {
        one.locator("code").first.inner_text(): one.inner_text() for one in block.locator(".parts li").all()
    }
    parts = load().operations["get_experiment_results"].composition.parts
    assert shown.keys() == {name for name, part in parts.items() if part.is_optional}
    assert "confidence_threshold is missing." in shown["project"]
    page.goto("about:blank")
    open_docs(page, stack)
    assert open_operation(page, "get_experiment").locator(".parts").count() == 0


def test_an_address_leads_to_an_operation(stack: Stack, page: Any) -> None:
    open_docs(page, stack, "#/Change%20History/list_change_history")
    page.locator("#operations-Change_History-list_change_history.is-open .samples").wait_for()


def test_errors_are_links_to_one_page_and_only_an_operations_own_have_words(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    block = open_operation(page, "get_experiment")
    assert block.locator(".responses-table .response-col_status").all_inner_texts()[1:] == ["200", "304"]
    errors = block.locator(".errors li").all_inner_texts()
    assert (
        errors
        == [status for status in load().operations["get_experiment"].spec["responses"] if status > "304"][:-1]
    )
    block.locator(".errors").get_by_role("link", name="404").click()
    page.wait_for_url("**/docs/errors#404")
    assert page.locator("tr:target").inner_text().startswith("not_found")


def test_a_sample_is_written_in_three_languages_and_the_choice_stays(stack: Stack, page: Any) -> None:
    open_docs(page, stack)
    sample = open_operation(page, "list_projects").locator(".samples")
    assert sample.locator("pre").inner_text().startswith(f"curl '{stack.url}/v2/projects'")
    sample.get_by_role("button", name="Python").click()
    assert "requests.get(" in sample.locator("pre").inner_text()
    other = open_operation(page, "list_experiments").locator(".samples")
    assert "requests.get(" in other.locator("pre").inner_text()
    other.get_by_role("button", name="JavaScript").click()
    assert "await fetch(" in other.locator("pre").inner_text()


@pytest.mark.parametrize("operation_id", ["list_features", "update_feature", "get_experiment_results"])
def test_samples_run_as_they_stand(stack: Stack, page: Any, operation_id: str) -> None:
    open_docs(page, stack)
    sample = open_operation(page, operation_id).locator(".samples")
    printed = []
    for language, command in (
        ("curl", ["sh", "-c"]),
        ("Python", [sys.executable, "-c"]),
        ("JavaScript", ["node", "--input-type=module", "--eval"]),
    ):
        sample.get_by_role("button", name=language).click()
        done = subprocess.run(
            [*command, sample.locator("pre").inner_text()],
            env={**os.environ, "TOKEN": stack.token},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)
    answer = json.loads(printed[0])
    one = answer[0] if isinstance(answer, list) else answer
    assert "code" not in one
    known = str(one.get("id") or one["experiment_id"])
    assert all(known in text for text in printed)


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", WIDE), ("dark", NARROW)], ids=["light and wide", "dark and narrow"]
)
def test_it_is_readable_for_everybody(
    stack: Stack, browser: Any, axe: str, scheme: str, size: dict[str, int]
) -> None:
    """No critical or serious finding of axe-core, in Swagger UI's own parts neither, and nothing beside the screen."""
    with browser.new_context(viewport=size, color_scheme=scheme) as context:
        page = context.new_page()
        open_docs(page, stack)
        assert_readable(page, axe, scheme)
        for operation_id in ("list_experiments", "update_environment"):
            open_operation(page, operation_id).locator(".try-out__btn").click()
            assert_readable(page, axe, scheme)
        page.goto(f"{stack.docs}/errors")
        assert_readable(page, axe, scheme)
