"""The experiments service: layers (the API calls them campaigns), experiments, and events.

The first start of an experiment freezes how its results are computed: later edits do not change level, kind of
difference, baseline and the meaning of metrics in its `results_settings`. The lists of variations and metrics are the
present ones. `runs` has the times when the experiment ran, with the weights of each.
"""

from aiohttp import web

from optimizely_api.services.experiments.datafiles.upkeep import with_datafiles
from optimizely_api.services.experiments.handlers import ROUTES
from optimizely_api.services.experiments.levels import with_levels
from optimizely_api.services.experiments.received_changes import with_projects_feed
from optimizely_api.services.http.addresses import projects_url
from optimizely_api.services.http.application import make_application


def check_environment() -> None:
    """Raise InvalidVariable for an invalid variable of this service."""
    projects_url()


def create_application(database_url: str) -> web.Application:
    """The service's application on a migrated database.

    `OPTIMIZELY_API_PROJECTS_URL` (environment) is the address of the projects service.
    """
    contexts = [with_levels, with_projects_feed, with_datafiles]
    return make_application("experiments", database_url=database_url, routes=ROUTES, contexts=contexts)
