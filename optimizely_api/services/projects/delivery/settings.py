"""What the environment says about webhooks."""

from __future__ import annotations

import os
from dataclasses import dataclass

from optimizely_api.services.http.addresses import address, experiments_url
from optimizely_api.start_failures import InvalidVariable

PUBLIC_URL = "PROJECTS_PUBLIC_URL"
GATEWAY = "http://127.0.0.1:6543"
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
        experiments_url=experiments_url(),
        public_url=address(PUBLIC_URL, GATEWAY, default=GATEWAY),
        allow_private=private == "on",
    )
