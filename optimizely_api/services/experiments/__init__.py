"""The experiments service: layers (the API calls them campaigns), experiments, and events.

What results are computed by is put away when an experiment starts for the first time: level, kind of difference,
baseline and the meaning of its metrics do not change afterwards in its `results_settings`, whatever is edited. Which
variations and metrics there are follows the present lists. `runs` says when it ran, with which weights.
"""

from aiohttp import web

from optimizely_api.services.experiments.handlers import ROUTES
from optimizely_api.services.experiments.levels import projects_url, with_levels
from optimizely_api.services.http.application import make_application


def check_environment() -> None:
    """Raise InvalidVariable for a variable of this service that makes no sense."""
    projects_url()


def create_application(database_url: str) -> web.Application:
    """The service's application on a migrated database.

    `OPTIMIZELY_API_PROJECTS_URL` (environment) is the projects service's address.
    """
    return make_application("experiments", database_url=database_url, routes=ROUTES, contexts=[with_levels])
