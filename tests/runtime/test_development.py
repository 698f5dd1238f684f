"""`make serve`: the gateway reloads at each edit, and shows an error until the next edit."""

import os
import shutil
import time

import pytest
import requests

from tests.runtime.servers import until
from tests.support.serving import ROOT, serve

pytestmark = pytest.mark.slow
LONG_SECONDS = 60
SAVE_AGAIN_SECONDS = 10


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the checkout that the test edits."""
    folder = tmp_path / "checkout"
    for name in ("optimizely_api", "swagger", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("development.ini", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)
    return folder


class Edited:
    def __init__(self, served):
        self.served = served

    def shows(self, status, text="", *, of=None):
        """Wait for it, saving `of` again now and then: a worker does not notice what is saved while it starts."""
        saved = time.monotonic()

        def is_shown():
            nonlocal saved
            if of is not None and time.monotonic() - saved > SAVE_AGAIN_SECONDS:
                saved = time.monotonic()
                os.utime(of, (saved, of.stat().st_mtime + 1))
            return self._is(status, text)

        until(is_shown, LONG_SECONDS)

    def _is(self, status, text):
        try:
            response = self.served.get("/healthz")
        except requests.RequestException:
            return False
        return response.status_code == status and text in response.text


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    # Polling looks at the time of change only, which two edits in a row may share.
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 1))


def test_an_error_is_shown_until_it_is_corrected(checkout, tmp_path):
    view, contract = checkout / "optimizely_api/gateway/views/events.py", checkout / "swagger/events.yaml"
    import_line = "from typing import"
    with serve("main", {}, tmp_path / "log", ini=checkout / "development.ini", folder=checkout) as served:
        edited = Edited(served)
        edited.shows(200)
        for file, right, wrong, shown in (
            (view, import_line, f"def broken(:\n{import_line}", "invalid syntax"),
            (view, import_line, f"no_such_name\n{import_line}", "NameError: name 'no_such_name'"),
            (contract, "type: integer", "type: intger", "swagger/events.yaml, at /"),
        ):
            edit(file, right, wrong)
            edited.shows(500, shown, of=file)
            edit(file, wrong, right)
            edited.shows(200, of=file)
