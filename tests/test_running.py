"""`optimizely-api run` and `optimizely-api service`: what they say when something is in the way."""

import socket

import pytest
from click.testing import CliRunner

from optimizely_api.cli import main
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


@pytest.mark.parametrize("url", ["results.db", "mysql://host/results"])
def test_service_refuses_a_database_that_it_cannot_use(url):
    result = invoke("service", "results", "--database-url", url)
    assert result.exit_code == 1
    assert "Error" in result.output
