"""Which tests run in one process, where pytest-xdist runs them in several. A plugin of pytest."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Folders, and files, whose tests share servers that take long to start.
SHARING = (
    ("tests/sdk/",),
    ("tests/workflows/",),
    (
        "tests/system/test_docs_page.py",
        "tests/system/test_make_run.py",
        "tests/system/test_newcomer.py",
        "tests/system/test_schemathesis.py",
    ),
)


class FilesTogether(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests run in one process, and so do those that share servers."""

    def _split_scope(self, nodeid: str) -> str:
        return next(
            (sharing[0] for sharing in SHARING if nodeid.startswith(sharing)), nodeid.partition("::")[0]
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)
