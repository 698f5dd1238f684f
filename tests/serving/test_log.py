"""A line of the log: one shape for gateway and services, whatever it holds."""

import json
import logging
import subprocess
import sys
from configparser import RawConfigParser
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optimizely_api.gateway import access_log
from optimizely_api.runtime import refusals
from optimizely_api.serving.log import JSONLines, ReadableLines, log_request
from tests.support.serving import ROOT

EVERY_LINE = ["time", "level", "logger", "process", "message"]


def record(message: str = "three of %s", *args: Any, **more: Any) -> logging.LogRecord:
    log = logging.getLogger("optimizely_api.somewhere")
    extra = {"fields": more} if more else None
    return log.makeRecord(log.name, logging.WARNING, __file__, 1, message, args, None, extra=extra)


def line(of: logging.LogRecord) -> dict[str, Any]:
    text = JSONLines().format(of)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_line_says_when_how_grave_where_and_what() -> None:
    written = line(record("three of %s", "four", dropped=3))
    assert list(written) == [*EVERY_LINE, "dropped"]
    assert (written["level"], written["logger"]) == ("warning", "optimizely_api.somewhere")
    assert (written["message"], written["dropped"]) == ("three of four", 3)
    assert written["time"].endswith("Z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(written["time"])) < timedelta(minutes=1)


def test_a_traceback_is_a_field_of_its_line() -> None:
    of = record("failed")
    try:
        raise ValueError("a reason")
    except ValueError:
        of.exc_info = sys.exc_info()
    written = line(of)
    assert written["message"] == "failed"
    assert written["traceback"].endswith("ValueError: a reason")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**70, 2**70),
        ("\ud800", "\ud800"),
        ({1: "one"}, {"1": "one"}),
        (ValueError("x"), "x"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
    ],
    ids=["a large integer", "half of a surrogate pair", "a number as a key", "an object", "a time"],
)
def test_no_value_is_too_odd_for_a_line(value: Any, written: Any) -> None:
    assert line(record("odd", value=value))["value"] == written
    whole = line(record("odd", value=value, beside=2**70))
    assert (whole["value"], whole["time"][-1]) == (written, "Z")


def test_a_person_reads_the_fields_after_the_message() -> None:
    readable = ReadableLines("%(levelname)s %(message)s").format(record("gone", status=200, path="/v2"))
    assert readable == "WARNING gone  status=200  path=/v2"


def test_a_request_is_logged_only_where_somebody_reads_it(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("optimizely_api.somewhere")
    for level in (logging.WARNING, logging.INFO):
        caplog.set_level(level, log.name)
        log_request(log, {"status": level})
    assert [entry.fields for entry in caplog.records] == [{"status": logging.INFO}]  # type: ignore[attr-defined]


def test_the_application_and_the_server_write_to_one_access_log() -> None:
    assert access_log.log is refusals.access_log


@pytest.mark.parametrize(
    ("ini", "formatter"), [("production.ini", JSONLines), ("development.ini", ReadableLines)]
)
def test_every_handler_of_an_ini_file_has_the_one_shape(ini: str, formatter: type) -> None:
    config = RawConfigParser()
    config.read(ROOT / ini)
    for handler in config["handlers"]["keys"].split(","):
        name = config[f"handler_{handler.strip()}"]["formatter"]
        assert config[f"formatter_{name}"]["class"] == f"{formatter.__module__}.{formatter.__qualname__}"


@pytest.mark.parametrize("module", ["runtime.server.worker", "services.http.worker"])
def test_a_start_writes_no_line_before_the_first_of_the_log(module: str) -> None:
    """gunicorn's master imports the class of its workers before it has a log; warnings would be lines of text."""
    command = [sys.executable, "-c", f"import optimizely_api.{module}"]
    started = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert started.stdout + started.stderr == ""
