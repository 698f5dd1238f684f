"""Gunicorn's settings from the ini file that `--paste` names.

gunicorn reads the application's section of `--paste FILE.ini#NAME` but ignores `[server:NAME]`. The `gunicorn.conf.py`
of the checkout, which gunicorn finds by itself, applies that section. Elsewhere, name this module as the configuration:
`gunicorn -c python:optimizely_api.runtime.server.ini_section --paste FILE.ini`. Both are read again on HUP.

`workers = auto` is our addition: one worker for each CPU.
"""

import argparse
import configparser
import difflib
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gunicorn.config import KNOWN_SETTINGS as GUNICORN_SETTINGS

PASTE_KEYS = frozenset({"use"})
KNOWN_SETTINGS = frozenset(setting.name for setting in GUNICORN_SETTINGS)
AUTO = "auto"  # as `workers`
LISTS = frozenset({"raw_env", "reload_extra_files"})  # one item a line
# A container's own group; outside of containers the root group, which has no limit.
CGROUP = Path("/sys/fs/cgroup")


def gunicorn_arguments() -> list[str]:
    """Return gunicorn's arguments: those of the environment, then the command line, which takes precedence."""
    return [*shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")), *sys.argv[1:]]


def obeyed() -> dict[str, str | list[str]]:
    """Return the settings for this gunicorn; a mistake in them ends it with one line."""
    try:
        return server_settings(gunicorn_arguments())
    except (ValueError, OSError, configparser.Error) as exc:
        raise SystemExit("Error: " + " ".join(str(exc).split())) from None


def server_settings(arguments: Sequence[str]) -> dict[str, str | list[str]]:
    """Return the `[server:NAME]` section for `--paste FILE.ini#NAME` among gunicorn's arguments; {} without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--paste", "--paster")
    uri = parser.parse_known_args(list(arguments))[0].paste
    if not uri:
        return {}
    path, _, name = uri.partition("#")
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(Path(path).read_text(encoding="utf-8"), source=path)
    section = f"server:{name or 'main'}"
    if not ini.has_section(section):
        return {}
    settings = {
        key: value for key, value in ini.items(section) if key not in PASTE_KEYS | ini.defaults().keys()
    }
    # [DEFAULT] belongs to every section, and contains settings of the application.
    settings = {
        key: value for key, value in settings.items() if key in KNOWN_SETTINGS or key not in ini.defaults()
    }
    _refuse_unknown(settings, section)
    if settings.get("workers", "").strip().lower() == AUTO:
        settings["workers"] = str(automatic_workers())
    return {key: value.split("\n") if key in LISTS else value for key, value in settings.items()}


def _refuse_unknown(settings: dict[str, str], section: str) -> None:
    """Raise ValueError naming a key that is not a setting of gunicorn; gunicorn would ignore it."""
    known = list(KNOWN_SETTINGS)
    for key, value in settings.items():
        if key not in KNOWN_SETTINGS:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"[{section}] {key} = {value}: gunicorn has no such setting{hint}")


def automatic_workers() -> int:
    """Return WEB_CONCURRENCY, which gunicorn uses without `workers`, or one worker for each usable CPU."""
    concurrency = os.environ.get("WEB_CONCURRENCY")
    return int(concurrency) if concurrency else usable_cpus()


def usable_cpus(cgroup: Path | None = None) -> int:
    """Return the number of CPUs that this process may use: its affinity, or the limit of its control group if smaller.

    The limit of a container is cgroup v2, `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD"
    (kernel.org/doc/Documentation/admin-guide/cgroup-v2.rst). A part of a CPU counts as one.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = ((cgroup or CGROUP) / "cpu.max").read_text(encoding="ascii").split()
        return min(affinity, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return affinity


globals().update(obeyed())
