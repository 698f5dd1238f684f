"""Settings: typed once, and wrong ones named at start-up."""

import dataclasses
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from optimizely_api.cli import main as command_line
from optimizely_api.gateway import settings as module
from optimizely_api.gateway.settings import InvalidSetting, Settings
from optimizely_api.gateway.settings_ini import HEADINGS, default_section, with_settings
from tests.support.samples import SERVICES_KEY

ROOT = Path(__file__).parents[2]


def read(ini, environ):
    """With the services' key in the environment: there is no other setting without a default."""
    return module.read(ini, {"SERVICES_KEY": SERVICES_KEY, **environ})


def test_every_setting_has_a_default_and_a_meaning():
    assert read({}, {}) == Settings(services_key=SERVICES_KEY)
    assert all(item.metadata["meaning"] for item in dataclasses.fields(Settings))


def test_text_becomes_a_type():
    settings = read({"request_deadline_seconds": "2.5", "upstream_connections": "7"}, {})
    assert (settings.request_deadline_seconds, settings.upstream_connections) == (2.5, 7)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_a_switch_is_true_or_false(text, value):
    assert read({"coalesce_calls": text}, {}).coalesce_calls is value


def test_the_environment_wins_over_the_file():
    settings = read({"results_url": "http://file:1"}, {"OPTIMIZELY_API_RESULTS_URL": "http://environment:2/"})
    assert settings.results_url == "http://environment:2"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("request_deadline_seconds", "soon", "request_deadline_seconds = soon: not a number"),
        ("request_deadline_seconds", "nan", "must be at least 0.01"),
        ("request_deadline_seconds", "inf", "must be at least 0.01"),
        ("request_deadline_seconds", "0", "must be at least 0.01"),
        ("upstream_connections", "1.5", "upstream_connections = 1.5: not a whole number"),
        ("coalesce_calls", "maybe", "coalesce_calls = maybe: neither true nor false"),
        ("definition_cache_seconds", "-1", "definition_cache_seconds = -1: must be at least 0"),
        ("results_url", "results:80", "results_url = results:80: not an address"),
        ("results_url", "http://host/?a=b", "not an address"),
        ("request_deadline_second", "1", "no such setting; did you mean request_deadline_seconds?"),
    ],
)
def test_a_wrong_value_stops_start_up_naming_key_and_value(key, value, said):
    with pytest.raises(InvalidSetting, match=r".*") as failure:
        read({key: value}, {})
    assert said in str(failure.value)


def test_a_misspelt_variable_stops_start_up_too():
    with pytest.raises(
        InvalidSetting, match=r"OPTIMIZELY_API_RESULT_URL in the environment.*did you mean results_url"
    ):
        read({}, {"OPTIMIZELY_API_RESULT_URL": "http://results:1"})


def test_keys_of_libraries_are_left_alone():
    read(
        {
            "pyramid.reload_templates": "true",
            "here": "/x",
            "__file__": "production.ini",
            "__script__": "pserve",
        },
        {},
    )


def test_production_ini_lists_every_setting_with_its_default():
    listed = dict(re.findall(r"^# (\w+) =(?: (.+))?$", (ROOT / "production.ini").read_text(), re.MULTILINE))
    defaults = {item.name: str(item.default) for item in dataclasses.fields(Settings)}
    assert listed == defaults


def test_production_ini_is_as_make_settings_writes_it():
    text = (ROOT / "production.ini").read_text()
    assert text == with_settings(text), "make settings writes it anew"


def test_a_setting_is_listed_with_its_meaning_unit_and_bound():
    assert (
        "# The longest wait for a connection to a service. (seconds; at least 0.01)\n"
        "# upstream_connect_timeout_seconds = 1.0\n"
    ) in default_section()


def test_every_heading_has_its_first_setting():
    assert set(HEADINGS) <= {item.name for item in dataclasses.fields(Settings)}


def test_the_command_prints_the_settings_or_writes_them_into_a_file(tmp_path):
    assert CliRunner().invoke(command_line, ["settings"]).stdout == default_section()
    file = tmp_path / "gateway.ini"
    file.write_text("[DEFAULT]\nresults_url = http://old\n\n[app:main]\n")
    assert CliRunner().invoke(command_line, ["settings", "--write", str(file)]).exit_code == 0
    assert file.read_text() == default_section() + "[app:main]\n"


def test_the_command_changes_no_file_without_a_place_for_settings(tmp_path):
    file = tmp_path / "gateway.ini"
    file.write_text("[app:main]\n")
    done = CliRunner().invoke(command_line, ["settings", "--write", str(file)])
    assert (done.exit_code, file.read_text()) == (1, "[app:main]\n")


@pytest.mark.parametrize("name", ["production.ini", "development.ini"])
def test_the_ini_files_hold_only_settings_that_exist(name):
    ini = ConfigParser(interpolation=None)
    ini.read(ROOT / name)
    for section in ini.sections():
        if section.startswith("app:"):
            read({key: value for key, value in ini.items(section) if key != "use"}, {})
