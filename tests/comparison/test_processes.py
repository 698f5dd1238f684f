"""Whatever a process leaves behind is ended with it."""

import signal
import sys
import time

import psutil
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.comparison.rig.processes import (
    CpuTimes,
    Process,
    free_ports,
    is_listening,
    session_members,
)
from tests.support.ports import EPHEMERAL, free_port, listening_socket

# Starts a child that ignores TERM, says its id, and ends: the child becomes an orphan.
LEAVES_AN_ORPHAN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                          "print('ready', flush=True); time.sleep(600)"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""
LISTENS = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
time.sleep(600)
"""


def first_line(process):
    while not (text := process.output.read_text()).endswith("\n"):
        assert process.running or process.output.read_text(), process.tail()
    return text.splitlines()[0]


def test_an_orphan_that_does_not_listen_to_term_is_ended(tmp_path):
    process = Process("orphans", [sys.executable, "-c", LEAVES_AN_ORPHAN], tmp_path)
    orphan = psutil.Process(int(first_line(process)))
    assert orphan.is_running()
    process.stop(grace_seconds=0.1)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert list(session_members(process.pid)) == []


def test_a_stopped_process_listens_no_more(tmp_path):
    port = free_port()
    process = Process("listener", [sys.executable, "-c", LISTENS, str(port)], tmp_path)
    try:
        assert first_line(process) == "listening"
        assert is_listening(port)
    finally:
        process.stop()
    assert not is_listening(port)


def test_stopping_twice_does_no_harm(tmp_path):
    process = Process("short", [sys.executable, "-c", ""], tmp_path)
    process.stop()
    process.stop()
    assert not process.running


def test_the_settings_of_the_persons_shell_stay_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIMIZELY_API_RESULTS_URL", "http://elsewhere")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 9")
    program = "import os; print([key for key in os.environ if 'OPTIMIZELY' in key or 'GUNICORN' in key], flush=True)"
    process = Process("environment", [sys.executable, "-c", program], tmp_path)
    try:
        assert first_line(process) == "[]"
    finally:
        process.stop()


def test_usage_counts_children_too(tmp_path):
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', CHILD])"
    child = "import time; print('begun', flush=True); time.sleep(600)"
    process = Process("family", [sys.executable, "-c", program.replace("CHILD", repr(child))], tmp_path)
    try:
        assert first_line(process) == "begun"
        usage = process.usage()
        assert usage.processes == 2
        assert usage.memory_bytes > 1_000_000
    finally:
        process.stop()
    assert process.usage().processes == 0


def test_free_ports_are_all_different():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(is_listening(port) for port in ports)


def test_no_outgoing_connection_of_a_load_test_can_take_a_free_port():
    lowest = int(EPHEMERAL.read_text().split()[0])
    assert all(port < lowest for port in free_ports(100))


def test_a_port_on_which_somebody_listens_is_not_free(monkeypatch):
    with listening_socket() as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr("random.shuffle", lambda ports: ports.insert(0, taken))
        assert taken not in free_ports(3)


def test_a_signal_reaches_the_whole_session(tmp_path):
    process = Process("group", [sys.executable, "-c", LISTENS, str(free_port())], tmp_path)
    try:
        first_line(process)
        process.send_signal_to_all(signal.SIGSTOP)
        last = time.monotonic() + 10
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < last
            time.sleep(0.01)
        process.send_signal_to_all(signal.SIGCONT)
    finally:
        process.stop()


SPINS = "import time; last = time.process_time() + 0.4\nwhile time.process_time() < last: pass\n"


def test_own_cpu_time_counts_descendants_that_run_and_that_have_ended(tmp_path):
    before = CpuTimes.now()
    process = Process(
        "spins", [sys.executable, "-c", SPINS + "print('done', flush=True); time.sleep(600)"], tmp_path
    )
    try:
        assert first_line(process) == "done"
        assert CpuTimes.now().since(before).own >= 0.35
    finally:
        process.stop()
    after = CpuTimes.now().since(before)
    assert after.own >= 0.35
    assert 0 <= after.others_share <= 1


def test_what_this_program_computes_is_not_taken_for_that_of_others():
    busy = CpuTimes(available=20.0, busy=15.0, own=12.0)
    assert busy.others_share == 3.0 / 20.0


seconds = st.floats(-1, 1e6)


@given(seconds, seconds, seconds)
def test_others_never_take_more_than_all_processors(available, busy, own):
    assert 0 <= CpuTimes(available, busy, own).others_share <= 1
