"""The API's operations: one module per tag of the contract, one coroutine per operation, named after it."""

from pyramid.config import Configurator

from optimizely_api.gateway.contract.routes import EVENTS_PATH, EVENTS_ROUTE, add_get_route, add_open_route


def includeme(config: Configurator) -> None:
    add_get_route(config, "healthz", "/healthz")
    add_get_route(config, "readyz", "/readyz")
    add_open_route(config, EVENTS_ROUTE, EVENTS_PATH, "POST")
    config.scan(__name__)
