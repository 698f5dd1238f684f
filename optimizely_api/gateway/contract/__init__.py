"""The contract at work: a route for each operation, requests and responses held against it, its documents served.

    config.include("optimizely_api.gateway.contract")
    config.scan("optimizely_api.gateway.views")

gives the application a route per operation, named after its operationId; a view names it:

    @view_config(route_name="get_project", renderer="json")
    async def get_project(request): ...

When the application is made, an operation without a view and a view without an operation are errors.

The contract is that of `load()`, unless `registry[CONTRACT]` holds another one before the include.
"""

from pyramid.config import Configurator

from optimizely_api.contract import CONTRACT, load
from optimizely_api.gateway.contract.compiled import match_routes_once


def includeme(config: Configurator) -> None:
    """Set up routes, request validation, response checks, the served documents and the docs page."""
    config.registry.setdefault(CONTRACT, load())
    match_routes_once(config)
    config.include(".requests")
    config.include(".responses")
    config.include(".routes")
    config.include(".documents")
    config.include(".docs")
    config.include(".entrances")
