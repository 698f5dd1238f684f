"""Addresses of other servers, from the environment."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from optimizely_api.start_failures import InvalidVariable

PROJECTS_URL = "OPTIMIZELY_API_PROJECTS_URL"  # the same variables as the gateway's
EXPERIMENTS_URL = "OPTIMIZELY_API_EXPERIMENTS_URL"
RESULTS_URL = "OPTIMIZELY_API_RESULTS_URL"


def address(variable: str, example: str, default: str = "") -> str:
    """An http or https address without a slash at its end. Raises InvalidVariable for another text."""
    text = os.environ.get(variable) or default
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        is_address = False
    if text and not is_address:
        raise InvalidVariable(f"{variable} must be an address such as {example}, not {text!r}")
    return text.rstrip("/")


def projects_url() -> str:
    """Where the projects service is; "" where the environment does not say."""
    return address(PROJECTS_URL, "http://127.0.0.1:6551")


def experiments_url() -> str:
    """Where the experiments service is; "" where the environment does not say."""
    return address(EXPERIMENTS_URL, "http://127.0.0.1:6552")


def results_url() -> str:
    """Where the results service is; "" where the environment does not say."""
    return address(RESULTS_URL, "http://127.0.0.1:6553")
