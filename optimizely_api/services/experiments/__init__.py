"""The experiments service: layers (the API calls them campaigns), experiments, and events.

What results are computed by is put away when an experiment starts for the first time:
`results_settings` of an experiment does not change afterwards, whatever is edited.
"""

from aiohttp import web

from optimizely_api.services.experiments.handlers import ROUTES
from optimizely_api.services.http import make_application


def create_application(database_url: str) -> web.Application:
    """The service's application on a migrated database."""
    return make_application("experiments", database_url=database_url, routes=ROUTES)
