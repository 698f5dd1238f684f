"""`gunicorn --paste FILE.ini#NAME` obeys the file's [server:NAME] section."""

import pytest

from optimizely_api.server_section import gunicorn_arguments, server_settings
from tests.asserting import AUTHORIZED
from tests.serving import ROOT, serve

INI = """
[DEFAULT]
request_deadline_seconds = 5

[app:main]
use = egg:optimizely_api#main

[server:main]
use = egg:gunicorn#main
workers = 3

[server:legacy]
worker_class = sync
"""


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "some.ini"
    path.write_text(INI)
    return str(path)


@pytest.mark.parametrize("option", [["--paste"], ["--paster"]])
def test_the_main_section_is_meant_unless_another_is_named(ini, option):
    assert server_settings(["--bind", ":0", *option, ini])["workers"] == "3"
    assert server_settings([*option, f"{ini}#legacy"])["worker_class"] == "sync"
    assert server_settings([f"{option[0]}={ini}#legacy"])["worker_class"] == "sync"


def test_a_name_without_a_server_section_leaves_gunicorn_its_defaults(ini):
    assert server_settings(["--paste", f"{ini}#other"]) == {}


def test_without_paste_there_is_nothing_to_obey():
    assert server_settings(["module:application"]) == {}


def test_arguments_may_come_from_the_environment(ini, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--paste '{ini}#legacy'")
    assert server_settings(gunicorn_arguments())["worker_class"] == "sync"


def test_paste_starts_the_gateway_on_the_asyncio_worker(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", "--log-level", "debug") as served:
        assert served.get("/v2/projects", **AUTHORIZED).status_code == 200
        assert served.get("/healthz").json() == {"status": "ok"}
    assert "optimizely_api.runtime.worker.GatewayWorker" in served.log.read_text()


def test_the_ini_file_of_the_developers_starts_too(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", ini=ROOT / "development.ini") as served:
        assert served.get("/v2/projects", **AUTHORIZED).status_code == 200
