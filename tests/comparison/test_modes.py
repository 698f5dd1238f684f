"""The modes are what production.ini serves, under as many workers each."""

import configparser
import os

import pytest

from optimizely_api.comparison.rig.modes import MODES, USUAL, code_of, description, ini_text
from optimizely_api.gateway import upstreams as upstream_client
from optimizely_api.gateway.settings import read
from tests.support.serving import ROOT

SECTIONS = {  # of production.ini; the extra modes have none
    "multiprocessing": "legacy",
    "threads": "legacy-threads",
    "asyncio": "main",
    "asyncio-blocked": "main",
}


def parsed(text):
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(text)
    return ini


def written(name):
    """A mode's ini file, for three workers of sixteen threads."""
    settings = {"projects_url": "http://127.0.0.1:7001"}
    return parsed(
        ini_text(MODES[name], port=7000, workers=3, threads=16, settings=settings, ready_folder="/nowhere")
    )


@pytest.mark.parametrize("name", SECTIONS)
def test_a_mode_is_served_as_production_serves_it(name):
    production = parsed((ROOT / "production.ini").read_text())
    mode, section = written(name), SECTIONS[name]
    for key in ("worker_class", "control_socket_disable"):
        assert mode["server:main"][key] == production[f"server:{section}"][key]
    assert mode["app:main"].get("legacy.fan_out") == production[f"app:{section}"].get("legacy.fan_out")
    assert mode["logger_access"]["level"] == production["logger_access"]["level"]


@pytest.mark.parametrize("name", MODES)
def test_every_mode_has_the_same_workers_and_listens_on_this_machine_only(name):
    server = written(name)["server:main"]
    assert server["workers"] == "3"
    assert server["bind"] == "127.0.0.1:7000"


def test_only_the_mode_with_threads_has_threads():
    assert {name for name in MODES if "threads" in written(name)["server:main"]} == {"threads"}


def test_the_usual_modes_are_those_that_production_serves():
    assert set(USUAL) == set(SECTIONS)


def test_a_description_says_what_a_mode_is():
    assert description(MODES["threads"], workers=2, threads=32) == {
        "title": "threads",
        "worker_class": "gthread",
        "fan_out": "threads of the worker's executor",
        "workers": 2,
        "threads": 32,
        "connections": None,
        "blocks_the_loop": False,
        "code": code_of(MODES["threads"].source, MODES["threads"].lines),
    }
    more = description(MODES["multiprocessing-more"], workers=2, threads=32)
    assert (more["workers"], more["threads"]) == (2 * os.cpu_count() + 1, 1)


@pytest.mark.parametrize("name", MODES)
def test_every_mode_shows_a_few_lines_of_its_fan_out(name):
    assert 2 <= len(code_of(MODES[name].source, MODES[name].lines)) <= 4


def test_a_line_that_is_no_longer_in_the_source_is_missed():
    with pytest.raises(ValueError, match="has no line that begins with 'pool = Thread'"):
        code_of(MODES["threads"].source, ["while unsent", "pool = Thread"])


def test_the_gateways_settings_reach_the_application():
    assert written("asyncio")["app:main"]["projects_url"] == "http://127.0.0.1:7001"


@pytest.mark.parametrize("name", MODES)
def test_no_mode_saves_calls(name):
    settings = read(dict(written(name)["app:main"]), os.environ)
    caching = upstream_client.caching_options(settings)
    assert "legacy.fan_out" in MODES[name].application or not (caching.coalesce or caching.caches())
