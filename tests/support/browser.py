"""Chromium, as a reader has it, and axe-core, which finds what keeps people from reading a page."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium itself asks its maker's hosts for updates and the like unless told not to.
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
WIDE, NARROW = {"width": 1280, "height": 1600}, {"width": 390, "height": 844}
AXE_CORE, AXE_SHA256 = "axe-core@4.14.1", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
SERIOUS = ("critical", "serious")
ALL = (*SERIOUS, "moderate", "minor")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")  # which CI takes for a failure
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, from a cache that npm fills."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "optimizely-api" / AXE_CORE
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("npm is not installed")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run([npm, "install", *options, AXE_CORE], check=True)
    source = script.read_bytes()
    assert hashlib.sha256(source).hexdigest() == AXE_SHA256
    return source.decode()


def assert_readable(page: Any, axe: str, scheme: str, impacts: Collection[str] = SERIOUS) -> None:
    """The page has the scheme's background, nothing beside the screen, and no finding of axe-core of these impacts."""
    red, *_ = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert (red < 128) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.evaluate(axe)
    violations = page.evaluate("axe.run()")["violations"]
    found = {
        (one["id"], str(node["target"]))
        for one in violations
        if one["impact"] in impacts
        for node in one["nodes"]
    }
    assert found == set()
