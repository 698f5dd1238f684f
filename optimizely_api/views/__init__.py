"""The API's operations: one module per tag of the contract, one coroutine per operation, named after it."""

from pyramid.config import Configurator


def includeme(config: Configurator) -> None:
    config.add_route("healthz", "/healthz")
    config.add_route("readyz", "/readyz")
    config.scan(__name__)
