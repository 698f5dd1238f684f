"""`optimizely-api run` and `optimizely-api service`: what they say when something is in the way."""

import socket
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from optimizely_api.cli import main
from optimizely_api.demo import DemoError
from optimizely_api.demo import run as running
from tests.support.ports import free_port
from tests.support.serving import ROOT


def invoke(*arguments):
    return CliRunner().invoke(main, arguments)


def test_help_lists_the_commands():
    said = invoke("--help").output
    assert "run" in said
    assert "service" in said


def test_run_without_a_procfile_says_where_to_run_it(tmp_path):
    result = invoke("run", "--procfile", str(tmp_path / "Procfile"))
    assert result.exit_code == 2
    assert "run this in the checkout" in result.output


def test_run_names_the_port_that_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        monkeypatch.setenv("GATEWAY_PORT", str(taken.getsockname()[1]))
        result = invoke("run", "--procfile", str(ROOT / "Procfile"))
    assert result.exit_code == 1
    assert "cannot be used" in result.output
    assert "GATEWAY_PORT=" in result.output


def test_run_refuses_a_port_that_is_none(monkeypatch):
    monkeypatch.setenv("RESULTS_PORT", "many")
    result = invoke("run", "--procfile", str(ROOT / "Procfile"))
    assert result.exit_code == 1
    assert "RESULTS_PORT=many: not a port number" in result.output


def test_run_says_in_one_line_that_the_demo_cannot_be_loaded(monkeypatch):
    def load(*_arguments, **_options):
        raise DemoError("POST http://127.0.0.1:6553/v1/events: 503")

    monkeypatch.setattr(running, "run", load)
    result = invoke("run", "--procfile", str(ROOT / "Procfile"))
    assert (result.exit_code, result.output) == (1, "Error: POST http://127.0.0.1:6553/v1/events: 503\n")


async def test_run_names_a_gateway_that_does_not_respond(monkeypatch):
    monkeypatch.setattr(running, "LONGEST_START_SECONDS", 0.1)
    monkeypatch.setattr(running, "LONGEST_ANSWER_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", free_port()))
        silent.listen()
        ports = running.Ports(gateway=silent.getsockname()[1], projects=1, experiments=2, results=3, events=4)
        with pytest.raises(running.CannotRun, match="the gateway does not respond within"):
            await running._until_ready(SimpleNamespace(poll=lambda: None), ports, None)


@pytest.mark.parametrize("url", ["results.db", "mysql://host/results"])
def test_service_refuses_a_database_that_it_cannot_use(url):
    result = invoke("service", "results", "--database-url", url)
    assert result.exit_code == 1
    assert "Error" in result.output
