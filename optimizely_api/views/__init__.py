"""The API's operations: one module per tag of the contract, one coroutine per operation, named after it."""

from pyramid.config import Configurator

from ..contract.routes import add_get_route


def includeme(config: Configurator) -> None:
    add_get_route(config, "healthz", "/healthz")
    add_get_route(config, "readyz", "/readyz")
    config.scan(__name__)
