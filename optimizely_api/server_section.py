"""Gunicorn's settings from the ini file that `--paste` names.

gunicorn reads the application's section of `--paste FILE.ini#NAME` and leaves `[server:NAME]` alone. This module is a
gunicorn configuration that obeys that section too. A `gunicorn.conf.py` that imports it is found by itself in the
current folder; elsewhere say `gunicorn -c python:optimizely_api.server_section --paste FILE.ini`.
"""

import argparse
import configparser
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PASTE_KEYS = frozenset({"use", "here", "__file__"})


def server_settings(arguments: Sequence[str]) -> dict[str, str]:
    """Return the `[server:NAME]` section for `--paste FILE.ini#NAME` among gunicorn's arguments; {} without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--paste", "--paster")
    uri = parser.parse_known_args(list(arguments))[0].paste
    if not uri:
        return {}
    path, _, name = uri.partition("#")
    ini = configparser.ConfigParser(
        defaults={"here": os.path.dirname(os.path.abspath(path))}, interpolation=None
    )
    ini.read_string(Path(path).read_text(encoding="utf-8"), source=path)
    section = f"server:{name or 'main'}"
    if not ini.has_section(section):
        return {}
    return {key: value for key, value in ini.items(section) if key not in PASTE_KEYS}


globals().update(server_settings(sys.argv[1:]))
