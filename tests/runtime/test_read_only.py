"""The gateway starts and serves on a read-only system, with gunicorn's `--worker-tmp-dir /dev/shm`."""

import os

from tests.support.serving import serve

# Python runs this at its start; an audit hook cannot be removed again.
SITECUSTOMIZE = """
import errno, os, sys

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def read_only(event, arguments):
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & WRITES
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "os.truncate"):
        path, writes = arguments[0], True
    else:
        return
    if writes and not str(path).startswith("/dev/") and not isinstance(path, int):
        raise OSError(errno.EROFS, "read-only", path)

sys.addaudithook(read_only)
"""


def test_the_gateway_starts_and_serves_on_a_read_only_system(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with serve("main", {}, tmp_path / "log", "--workers", "1", "--worker-tmp-dir", "/dev/shm") as served:
        assert served.get("/healthz").status_code == 200
