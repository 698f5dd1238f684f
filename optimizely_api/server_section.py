"""Gunicorn's settings from the ini file that `--paste` names.

gunicorn reads the application's section of `--paste FILE.ini#NAME` and leaves `[server:NAME]` alone. The
`gunicorn.conf.py` of the checkout, which gunicorn finds by itself, obeys that section too, and anew on HUP. Elsewhere
this module is the configuration: `gunicorn -c python:optimizely_api.server_section --paste FILE.ini`; gunicorn imports
it once, so that a changed section then takes a restart.
"""

import argparse
import configparser
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

PASTE_KEYS = frozenset({"use"})


def gunicorn_arguments() -> list[str]:
    """What gunicorn was told: in the environment, and on the command line, which comes last and counts more."""
    return [*shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")), *sys.argv[1:]]


def server_settings(arguments: Sequence[str]) -> dict[str, str]:
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
    return {key: value for key, value in ini.items(section) if key not in PASTE_KEYS}


globals().update(server_settings(gunicorn_arguments()))
