"""`optimizely-api compare` as a person runs it: a real short run, clear refusals, and nothing left behind."""

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import jsonschema_rs
import psutil
import pytest
from click.testing import CliRunner

from optimizely_api.comparison.command import compare
from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.trials import OWN_SHARE, trials_of
from optimizely_api.comparison.rig.modes import MODES
from optimizely_api.comparison.scenarios import scenarios_of
from tests.comparison.known_report import measured, modes, tally, trial, trials
from tests.comparison.report_schema import REPORT
from tests.support.measuring import assert_gone, family, have_balancer, needs_haproxy

PROGRAM = "from optimizely_api.comparison.command import compare; compare(prog_name='optimizely-api compare')"
SOON_SECONDS = 120
LONGEST_RUN_SECONDS = 400  # on a machine that runs other tests too
SHORT = (
    "--quick",
    "--ramp-seconds",
    "3",
    "--ramp-from",
    "2",
    "--ramp-to",
    "60",
    "--workers",
    "1",
    "--rate",
    "20",
)


def started(output, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, "--output", str(output), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is just ending, as the processes of one request do all the time
        return ""


def ports_of(processes):
    ports = set()
    for process in processes:
        try:
            found = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        assert all(each.laddr.ip == "127.0.0.1" for each in found if each.status == psutil.CONN_LISTEN)
        ports |= {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    return ports


def read(output):
    report = json.loads((output / "report.json").read_text())
    jsonschema_rs.validator_for(REPORT).validate(report)
    return report


def assert_both_counted_the_same(measured):
    """The balancer's log and the load generator saw the same 5XX; some requests change the second on their way."""
    answered = measured["generator"]["statuses"]
    seen = sum(count for status, count in answered.items() if status.startswith("5"))
    seen += sum(measured["generator"]["failures"].values())
    assert measured["error_count"] == pytest.approx(seen, rel=0.02, abs=3)
    assert measured["good"] + seen + sum(measured["other"].values()) == measured["offered"]


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(("asyncio", "asyncio-blocked"), id="asyncio", marks=pytest.mark.slow),
        pytest.param(tuple(MODES), id="all", marks=pytest.mark.whole),
    ],
)
@needs_haproxy
def test_a_short_run_reports_every_mode(chosen, tmp_path):
    process = started(tmp_path / "out", *SHORT, "--modes", ",".join(chosen))
    said, _ = process.communicate(timeout=LONGEST_RUN_SECONDS)
    assert process.returncode == 0, said
    assert "A smoke test" in said
    report = read(tmp_path / "out")
    assert list(report["modes"]) == list(chosen)
    for name in chosen:
        expected = scenarios_of(MODES[name].blocks_the_loop, Options().shortened().scenarios)
        assert {each["scenario"] for each in report["trials"] if each["mode"] == name} == set(expected)
        (ramp,) = trials_of(report["trials"], name, "ramp")
        assert ramp["counted_by"] == "load balancer"
        assert ramp["good"] > 0
        assert_both_counted_the_same(ramp)
    blocked = report["modes"]["asyncio-blocked"]["watchdog"]
    assert blocked["stalls"] > 0
    assert "hold_the_loop" in "".join(blocked["commonest_warning"])
    assert report["modes"]["asyncio"]["watchdog"]["commonest_warning"] != blocked["commonest_warning"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "asyncio, one blocking view" in page
    assert "<svg " in page


@pytest.mark.slow
def test_without_a_balancer_the_generator_counts(tmp_path):
    process = started(tmp_path / "out", *SHORT, "--no-balancer", "--modes", "threads", "--scenario", "ramp")
    said, _ = process.communicate(timeout=LONGEST_RUN_SECONDS)
    assert process.returncode == 0, said
    (ramp,) = read(tmp_path / "out")["trials"]
    assert ramp["counted_by"] == "load generator"
    assert ramp["balancer"] == {}
    assert ramp["good"] > 0


@pytest.mark.whole
def test_a_trace_has_each_call_of_four_requests_to_one_worker(tmp_path):
    chosen = (
        "--modes",
        "multiprocessing-kept,asyncio",
        "--scenario",
        "trace",
        "--repeat",
        "1",
        "--no-balancer",
    )
    process = started(tmp_path / "out", *chosen)
    said, _ = process.communicate(timeout=LONGEST_RUN_SECONDS)
    assert process.returncode == 0, said
    blocking, coroutines = (trace["requests"] for trace in read(tmp_path / "out")["traces"])
    for request in (*blocking, *coroutines):
        assert request["status"] == 200
        first, *others = request["calls"]
        assert first["service"] == "experiments"
        assert {call["service"] for call in others} == {"experiments", "projects", "results"}
        assert all(request["start"] <= first["begin"] < first["end"] for _ in others)
        assert all(first["end"] <= call["begin"] < call["end"] <= request["end"] for call in others)
    assert at_once(blocking) == 1, "a sync worker takes one request after the other"
    assert at_once(coroutines) == 4


def at_once(requests):
    """How many requests had calls under way at the same time."""
    spans = [(request["calls"][0]["begin"], request["calls"][-1]["end"]) for request in requests]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="TERM", marks=pytest.mark.whole),
    ],
)
def test_broken_off_in_the_middle_it_leaves_nothing_running_and_keeps_a_partial_report(number, tmp_path):
    balanced = "--balancer" if have_balancer() else "--no-balancer"
    process = started(tmp_path / "out", *SHORT, balanced, "--modes", "multiprocessing,asyncio")
    try:
        line = process.stdout.readline()  # the first scenario has ended, the next one is under way
        assert "multiprocessing: one request at a time" in line
        last = time.monotonic() + SOON_SECONDS
        while not any("comparison.load" in command_of(each) for each in family(process)):
            assert time.monotonic() < last, "no load is offered"
        members = family(process)
        ports = ports_of(members)
        assert (
            len(ports) >= 5
        )  # three upstreams and their control, the gateway, and the balancer if there is one
        process.send_signal(number)
        process.send_signal(number)  # an impatient person's second one must not disturb the cleaning up
        said = process.stdout.read()
        assert process.wait(SOON_SECONDS) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert_gone(members, ports)
    assert "Interrupted" in said
    report = read(tmp_path / "out")
    assert report["interrupted"]
    assert trials_of(report["trials"], "multiprocessing", "one")[0]["durations_ms"]
    assert (tmp_path / "out" / "report.html").exists()


def run(*arguments):
    return CliRunner().invoke(compare, arguments)


def test_help_says_what_it_does_and_how_long_it_takes():
    said = run("--help").output
    assert "--quick" in said
    assert "--no-balancer" in said
    assert "minutes" in said


def test_help_lists_the_exit_statuses():
    said = " ".join(run("--help").output.split())
    assert "Exit status: 0, a report was made, whatever it leaves out" in said
    assert "2, a wrong option; 130, interrupted" in said


@pytest.mark.parametrize(("finished", "status"), [(True, 0), (False, 130)], ids=["finished", "interrupted"])
def test_the_status_is_about_the_report_and_not_about_what_it_leaves_out(
    finished, status, monkeypatch, tmp_path
):
    def measured_modes(_options, results, _progress):
        results.modes |= modes()
        results.trials += trials()
        unfit = measured(tally(100), tally(100), rate=10.0) | {"not_fit": ["phase 0: too late"]}
        results.trials.append(trial("threads", "slow", OWN_SHARE, repetition=2, **unfit))
        return finished

    monkeypatch.setattr("optimizely_api.comparison.rig.run.compare_modes", measured_modes)
    done = run("--quick", "--no-balancer", "--output", str(tmp_path))
    assert done.exit_code == status, done.output
    said = " ".join(done.output.split())
    assert "Left out: threads, slow, repetition 2: the load generator fell behind: phase 0: too late" in said
    report = read(tmp_path)
    assert report["interrupted"] is not finished
    assert [each["ratio"] for each in report["summary"]["comparisons"].values()] == [None, None]
    assert "A smoke test" in said
    assert "A smoke test" in (tmp_path / "report.html").read_text()
    assert not re.search(r"(about|at least) [\d.]+ times", said)


def test_without_a_balancer_it_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    assert "apt-get install haproxy" in done.output
    assert "--no-balancer" in done.output


def test_without_the_extra_it_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    assert "pip install 'optimizely_api[compare]'" in done.output


def test_a_mode_whose_package_is_missing_says_how_to_install_it(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gevent" else find(name))
    done = run("--output", str(tmp_path), "--modes", "asyncio,gevent")
    assert done.exit_code == 1
    assert (
        "The mode gevent needs gevent, which is not installed: pip install 'optimizely_api[gevent]'"
        in done.output
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ramp-from", "10", "--ramp-to", "5"], "--ramp-to 5 is less than --ramp-from 10"),
        (["--upstreams", "real", "--fan-out", "5"], "--fan-out needs the stub"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(arguments, said, tmp_path):
    done = run("--output", str(tmp_path), *arguments)
    assert done.exit_code == 1
    assert said in done.output


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "0"], ["--tail-share", "2"], ["--rate", "0"], ["--modes", "x"], ["--repeat", "0"]],
)
def test_values_that_make_no_sense_are_refused(arguments, tmp_path):
    done = run("--output", str(tmp_path), *arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.output


def test_quick_is_a_growing_load_and_single_requests():
    assert set(Options().shortened().scenarios) == {"one", "ramp"}
    assert (Options().shortened().repeat, Options().shortened().workers) == (1, 1)


def test_the_ramp_comes_last_unless_it_says_what_a_mode_can_carry():
    assert scenarios_of(False, Options().scenarios)[-2:] == ["ramp", "overload"]
    assert scenarios_of(False, ("ramp", "slow", "one")) == ["one", "ramp", "slow"]
    assert scenarios_of(True, Options().scenarios) == ["search", "blocking", "ramp"]


def test_what_is_about_a_single_event_is_measured_once():
    once = set(scenarios_of(False, Options().scenarios)) - set(scenarios_of(False, Options().scenarios, 2))
    assert once == {"slow", "restart", "overload"}
    assert scenarios_of(True, Options().scenarios, 2) == ["blocking"]
