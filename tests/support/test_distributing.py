"""Several processes run the tests, and a file's tests share the servers of one."""

import re
import subprocess
import sys

import pytest

from tests.support.distributing import SHARING
from tests.support.serving import ROOT

FOUR_TESTS = "import pytest\n@pytest.mark.parametrize('number', range(4))\ndef test_it(number): pass\n"


def test_what_shares_servers_is_there():
    assert [name for sharing in SHARING for name in sharing if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_the_tests_of_files_that_share_servers_run_in_one_process(tmp_path):
    files = ["tests/sdk/test_a.py", "tests/sdk/test_b.py", "tests/other/test_c.py", "tests/other/test_d.py"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(FOUR_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = [
        "-p",
        "tests.support.distributing",
        "-p",
        "no:cacheprovider",
        "-n",
        "3",
        "--dist",
        "loadfile",
        "-v",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), *files],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    ran = re.findall(r"\[(gw\d)\].* PASSED (\S+)::", done.stdout)
    assert len(ran) == 16
    processes = {file: {process for process, of in ran if of == file} for file in files}
    assert all(len(of) == 1 for of in processes.values())
    assert processes["tests/sdk/test_a.py"] == processes["tests/sdk/test_b.py"]
    assert len(set.union(*processes.values())) > 1
