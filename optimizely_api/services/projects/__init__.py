"""The projects service: accounts, their personal tokens (stored as hashes only), and projects."""

from aiohttp import web

from optimizely_api.services.http.application import make_application
from optimizely_api.services.projects.handlers import ROUTES


def check_environment() -> None:
    """The service has no variables of its own."""


def create_application(database_url: str) -> web.Application:
    """The service's application on a migrated database."""
    return make_application("projects", database_url=database_url, routes=ROUTES)
