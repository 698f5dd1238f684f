"""`optimizely-api prove` as a person runs it: nothing bad under faults, a lying response found, nothing left behind."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.measuring import assert_gone, family, needs_haproxy

pytestmark = [pytest.mark.whole, needs_haproxy]

PROGRAM = "from optimizely_api.proof.command import prove; prove(prog_name='optimizely-api prove')"
LONGEST_RUN_SECONDS = 400  # on a machine that runs other tests too
SHORT = ("--requests", "250", "--rate", "25", "--workers", "1", "--gap-seconds", "0.7")


def started(output, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *SHORT, "--output", str(output), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def proved(output, *arguments):
    process = started(output, *arguments)
    said, _ = process.communicate(timeout=LONGEST_RUN_SECONDS)
    return process.returncode, said, json.loads(output.read_text()) if output.exists() else {}


def test_nothing_is_bad_while_services_lie_and_die(tmp_path):
    kinds = "swapped,off-contract,bad-json,kill-service"
    status, said, report = proved(tmp_path / "proof.json", "--faults", kinds, "--seed", "3")
    assert report["examples"] == [], said
    assert (status, report["bad"], report["seed"]) == (0, 0, 3)
    assert {fault["kind"] for fault in report["faults"]} == set(kinds.split(","))
    assert report["falsified"]
    assert report["judged"] > 250
    assert report["verdicts"]["fresh"]["number"] > 0
    assert report["verdicts"]["5XX with its reason"]["number"] > 0
    assert report["recovered_seconds"] is not None
    assert "at most" in said


def test_workers_may_be_killed_and_replaced_at_regular_intervals(tmp_path):
    options = ("--every", "kill-worker=2", "--every", "reload=4", "--gateways", "2", "--seed", "1")
    status, said, report = proved(tmp_path / "proof.json", *options)
    assert (status, report["bad"]) == (0, 0), said
    assert [fault["at"] for fault in report["faults"]] == [2, 4, 4, 6, 8, 8]
    for group in ("gateways", "services"):
        assert 0 < report["memory"][group]["first_bytes"] <= report["memory"][group]["most_bytes"]
        assert f"Memory of the {group}" in said


def test_a_lying_response_is_found(tmp_path):
    """The services' names are falsified in contract, which no gateway can see."""
    status, said, report = proved(tmp_path / "proof.json", "--faults", "forged", "--seed", "1")
    assert status == 3, said
    assert report["verdicts"]["wrong"]["number"] > 0
    assert report["verdicts"]["off contract"]["number"] == 0
    assert any("name" in example["why"] for example in report["examples"])


def test_ctrl_c_leaves_nothing_running_and_keeps_what_there_is(tmp_path):
    output = tmp_path / "proof.json"
    process = started(output, "--requests", "100000", "--faults", "freeze-service,freeze-worker,full-disk")
    assert "Starting" in process.stdout.readline()
    assert "Seed" in process.stdout.readline()
    deadline = time.monotonic() + 60
    while not any(each.status() == psutil.STATUS_STOPPED for each in family(process)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes = family(process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert_gone(processes, set())
    report = json.loads(output.read_text())
    assert not report["finished"]
    assert report["judged"] > 0
