"""What the environment says about webhooks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from optimizely_api.start_failures import InvalidVariable

EXPERIMENTS_URL = "OPTIMIZELY_API_EXPERIMENTS_URL"  # the same address as the gateway's
PUBLIC_URL = "PROJECTS_PUBLIC_URL"
PRIVATE = "PROJECTS_PRIVATE_WEBHOOKS"


@dataclass(frozen=True)
class Settings:
    """The variables of the environment."""

    experiments_url: str  # "": there are no feeds, and nobody is called
    public_url: str  # the gateway's address, as receivers reach it
    allow_private: bool  # whether receivers may have private and link-local addresses


def read_settings() -> Settings:
    """The settings from the environment. Raises InvalidVariable."""
    private = os.environ.get(PRIVATE) or "off"
    if private not in ("on", "off"):
        raise InvalidVariable(f"{PRIVATE} must be on or off, not {private!r}")
    return Settings(
        experiments_url=_address(EXPERIMENTS_URL, ""),
        public_url=_address(PUBLIC_URL, "http://127.0.0.1:6543"),
        allow_private=private == "on",
    )


def _address(variable: str, default: str) -> str:
    text = os.environ.get(variable) or default
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        is_address = False
    if text and not is_address:
        raise InvalidVariable(f"{variable} must be an address such as http://127.0.0.1:6552, not {text!r}")
    return text.rstrip("/")
