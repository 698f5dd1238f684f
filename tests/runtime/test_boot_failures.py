"""A failed start prints its reason in the last line, without a traceback."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.ports import free_port, listening_socket
from tests.support.serving import ROOT

CLI = [sys.executable, "-m", "optimizely_api.cli"]
GUNICORN = [sys.executable, "-m", "gunicorn"]
OBEYING = ["-c", "python:optimizely_api.runtime.server.ini_section"]
PORTS = ("GATEWAY", "PROJECTS", "EXPERIMENTS", "RESULTS", "EVENTS")
MOST_LINES = 20  # gunicorn's own, of a start and a halt


def start(command, *, folder=ROOT, **environment):
    """Return the lines that a failing start wrote to standard error."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.rstrip().splitlines()
    assert len(lines) <= MOST_LINES
    return lines


def service(name, *, port=None, url):
    return [*CLI, "service", name, "--port", str(port or free_port()), "--database-url", url]


def gateway(folder, *, port=None, workers=2, section="main"):
    """Return the command for an installed package, with an ini file and without gunicorn.conf.py."""
    shutil.copy(ROOT / "production.ini", folder)
    bind = ["--bind", f"127.0.0.1:{port or free_port()}", "--workers", str(workers)]
    return [*GUNICORN, "--paste", f"production.ini#{section}", *bind]


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:////dev/null/projects.sqlite3", "/dev/null"),
        (f"postgresql://nobody@127.0.0.1:{free_port()}/projects", "Connect call failed"),
        ("mysql://localhost/projects", "unknown database 'mysql'"),
    ],
    ids=["a folder that is none", "a port where nobody listens", "a database that it does not know"],
)
def test_a_service_without_its_database_reports_that_in_one_line(url, named):
    [line] = start(service("projects", url=url))
    assert line.startswith("Error: ")
    assert named in line


@pytest.mark.parametrize(
    ("name", "variable", "value", "complaint"),
    [
        ("results", "RESULTS_MAX_BATCH_BYTES", "many", "must be a positive number of bytes, not 'many'"),
        ("events", "RESULTS_MAX_BATCH_BYTES", "0", "must be a positive number of bytes, not '0'"),
        ("events", "EVENTS_BODIES_BYTES", "-1", "must be a positive whole number, not '-1'"),
        ("results", "RESULTS_SMOOTHING", "yes", "must be on or off, not 'yes'"),
        ("projects", "PROJECTS_PRIVATE_WEBHOOKS", "yes", "must be on or off, not 'yes'"),
        (
            "experiments",
            "OPTIMIZELY_API_PROJECTS_URL",
            "localhost:6551",
            "must be an address such as http://127.0.0.1:6551, not 'localhost:6551'",
        ),
    ],
)
def test_a_wrong_variable_of_a_service_ends_its_start_in_one_line_before_its_database_is_touched(
    tmp_path, name, variable, value, complaint
):
    command = service(name, url=f"sqlite:///{tmp_path}/new.sqlite3")
    assert start(command, **{variable: value}) == [f"Error: {variable} {complaint}"]
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_of_the_gateway_is_named_in_the_last_line(tmp_path):
    lines = start([*gateway(tmp_path), *OBEYING], folder=tmp_path, OPTIMIZELY_API_CAMPAIGN_FAN_OUT="ten")
    assert lines[-1] == "Error: campaign_fan_out = ten: not a whole number"


def test_a_section_that_is_missing_is_named_in_the_last_line(tmp_path):
    worker = ["--worker-class", "optimizely_api.runtime.server.worker.GatewayWorker"]
    lines = start([*gateway(tmp_path, section="other"), *worker], folder=tmp_path)
    assert lines[-1].startswith("Error: No section 'other'")


def test_a_broken_contract_is_named_with_its_place_in_the_last_line(tmp_path):
    package = tmp_path / "optimizely_api"
    shutil.copytree(ROOT / "optimizely_api", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "swagger", tmp_path / "swagger")
    events = tmp_path / "swagger" / "events.yaml"
    events.write_text(events.read_text().replace("type: integer", "type: intger", 1))
    lines = start([*gateway(tmp_path), *OBEYING], folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert lines[-1].startswith("Error: swagger/events.yaml, at /"), lines


@pytest.mark.slow  # gunicorn tries again for five seconds
@pytest.mark.parametrize("of", ["gateway", "service"])
def test_a_port_that_is_taken_is_named_in_the_last_line(of, tmp_path):
    with listening_socket() as taken:
        port = taken.getsockname()[1]
        commands = {
            "gateway": [*gateway(tmp_path, port=port), *OBEYING],
            "service": service("projects", port=port, url=f"sqlite:///{tmp_path}/projects.sqlite3"),
        }
        last = start(commands[of], folder=tmp_path)[-1]
    assert last == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_worker_that_cannot_run_coroutine_views_is_refused_with_the_remedy(tmp_path):
    lines = start(gateway(tmp_path, workers=1), folder=tmp_path)
    [line] = [line for line in lines if line.startswith("Error: ")]
    assert "-c python:optimizely_api.runtime.server.ini_section" in line
    assert "--worker-class optimizely_api.runtime.server.worker.GatewayWorker" in line


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OPTIMIZELY_API_CAMPAIGN_FAN_OUT": "ten"}, "gateway could not start: campaign_fan_out = ten"),
        ({"PROJECTS_DATABASE_URL": "mysql://x/y"}, "projects could not start: unknown database 'mysql'"),
    ],
    ids=["a setting", "a database"],
)
def test_run_names_what_failed_in_one_line(environment, named, tmp_path):
    ports = {f"{name}_PORT": str(free_port()) for name in PORTS}
    [line] = start([*CLI, "run"], OPTIMIZELY_API_DATA_DIR=str(tmp_path), **ports, **environment)
    assert line.startswith(f"Error: {named}")


def test_run_names_the_folder_that_cannot_be_written():
    [line] = start([*CLI, "run"], OPTIMIZELY_API_DATA_DIR="/dev/null/var", GATEWAY_PORT=str(free_port()))
    assert "/dev/null/var" in line
    assert "OPTIMIZELY_API_DATA_DIR" in line
