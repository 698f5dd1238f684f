"""The projects service: accounts, their personal tokens (stored as hashes only), projects, and their webhooks."""

from aiohttp import web

from optimizely_api.services.http.addresses import results_url
from optimizely_api.services.http.application import make_application
from optimizely_api.services.projects.delivery.settings import read_settings
from optimizely_api.services.projects.delivery.starting import with_sender
from optimizely_api.services.projects.handlers import ROUTES
from optimizely_api.services.projects.subject_access.worker import with_worker

# An answer that is kept for an idempotency key may be larger than what other bodies are limited to.
MAX_BODY_BYTES = 4 * 1024 * 1024


def check_environment() -> None:
    """Raise InvalidVariable for an invalid variable of this service."""
    read_settings()
    results_url()


def create_application(database_url: str) -> web.Application:
    """The service's application on a migrated database; `delivery/settings.py` has its variables of the environment."""
    return make_application(
        "projects",
        database_url=database_url,
        routes=ROUTES,
        contexts=[with_sender, with_worker],
        max_body_bytes=MAX_BODY_BYTES,
    )
