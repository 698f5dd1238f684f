"""The simulation in short: nothing breaks, the same seed has the same result, and a policy that is wrong is found."""

import re
import subprocess
import sys

import pytest

SHORT = ("--requests", "2500", "--hours", "0.4", "--processes", "1")
FORGETFUL = """
from unittest import mock
from tests.simulate.__main__ import main
with mock.patch("optimizely_api.upstream.caching.cache.Cache.drop"):
    main(prog_name="simulate")
"""
LONGEST_RUN_SECONDS = 300  # on a machine that runs other tests too


def simulated(*arguments, program=("-m", "tests.simulate")):
    command = [sys.executable, "-W", "ignore", *program, *SHORT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS)


@pytest.fixture(scope="module")
def first():
    return simulated("--seed", "33")


def digest(run):
    return re.search(r"^seed 33: digest (\w{16})$", run.stdout, re.MULTILINE)[1]


def test_everything_holds_through_outages(first):
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2,500 requests in 0.4 hours" in first.stdout


def test_the_same_seed_has_the_same_result(first):
    assert digest(simulated("--seed", "33")) == digest(first)


@pytest.mark.whole  # a fault that it finds is none of the change under test
def test_everything_holds_with_a_random_seed():
    run = simulated()
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_denial_that_drops_nothing_is_found_with_seed_time_and_last_steps():
    run = simulated("--seed", "33", program=("-c", FORGETFUL))
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"BROKEN, seed 33: \S+ was denied at \S+ s, and is kept from before", run.stdout)
    assert re.search(r"^at \S+ s of virtual time, after$", run.stdout, re.MULTILINE)
    assert "again: python -m tests.simulate --seed 33 --requests 2500 --hours 0.4 --processes 1" in run.stdout
