"""`gunicorn --paste FILE.ini#NAME` obeys the file's [server:NAME] section."""

import os
from pathlib import Path

import pytest

from optimizely_api.runtime.server import ini_section as ini_section
from optimizely_api.runtime.server.ini_section import gunicorn_arguments, server_settings, usable_cpus
from tests.runtime.servers import until
from tests.support.asserting import AUTHORIZED
from tests.support.serving import ROOT, serve

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
def test_the_main_section_is_the_default(ini, option):
    assert server_settings(["--bind", ":0", *option, ini])["workers"] == "3"
    assert server_settings([*option, f"{ini}#legacy"])["worker_class"] == "sync"
    assert server_settings([f"{option[0]}={ini}#legacy"])["worker_class"] == "sync"


def test_a_name_without_a_server_section_leaves_gunicorn_its_defaults(ini):
    assert server_settings(["--paste", f"{ini}#other"]) == {}


def test_without_paste_there_are_no_settings():
    assert server_settings(["module:application"]) == {}


def test_arguments_may_come_from_the_environment(ini, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--paste '{ini}#legacy'")
    assert server_settings(gunicorn_arguments())["worker_class"] == "sync"


@pytest.fixture
def auto(tmp_path, monkeypatch):
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    path = tmp_path / "auto.ini"
    path.write_text(INI.replace("workers = 3", "workers = Auto"))
    return ["--paste", str(path)]


def test_auto_is_a_worker_for_each_cpu_that_may_be_used(auto, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5})
    monkeypatch.setattr(ini_section, "CGROUP", Path("/nowhere"))
    assert server_settings(auto)["workers"] == "3"


def test_web_concurrency_overrides_auto(auto, monkeypatch):
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    assert server_settings(auto)["workers"] == "7"


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("800000 100000", 4),
    ],
)
def test_the_limit_of_a_container_counts_if_it_is_lower(limit, cpus, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cpus(tmp_path) == cpus


def test_production_starts_a_worker_for_each_cpu_by_default(services, tmp_path, monkeypatch):
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    with serve("main", services.settings(), tmp_path / "auto") as served:
        assert served.get("/healthz").status_code == 200
        until(lambda: len(served.family()) == 1 + usable_cpus())
    with serve("main", services.settings(), tmp_path / "told", "--workers", "1") as served:
        assert served.get("/healthz").status_code == 200
        assert len(served.family()) == 2


def test_paste_starts_the_gateway_on_the_asyncio_worker(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", "--log-level", "debug") as served:
        assert served.get("/v2/projects", **AUTHORIZED).status_code == 200
        assert served.get("/healthz").json() == {"status": "ok"}
    assert "optimizely_api.runtime.server.worker.GatewayWorker" in served.log.read_text()


def test_the_ini_file_of_the_developers_starts_too(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", ini=ROOT / "development.ini") as served:
        assert served.get("/v2/projects", **AUTHORIZED).status_code == 200


def test_a_key_that_is_not_a_setting_of_gunicorn_is_refused_with_a_suggestion(tmp_path):
    path = tmp_path / "typo.ini"
    path.write_text(INI.replace("workers = 3", "worker_conections = 3"))
    with pytest.raises(ValueError, match=r"worker_conections = 3.*did you mean worker_connections"):
        server_settings(["--paste", str(path)])
