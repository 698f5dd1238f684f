"""The API's operations: one module per tag of the contract, one coroutine per operation, named after it."""

from pyramid.config import Configurator

from optimizely_api.gateway.contract.routes import (
    DATAFILE_PATH,
    DATAFILE_ROUTE,
    EVENTS_PATH,
    EVENTS_ROUTE,
    add_get_route,
    add_open_route,
)
from optimizely_api.gateway.datafiles import KEPT, KeptDatafiles


def includeme(config: Configurator) -> None:
    add_get_route(config, "healthz", "/healthz")
    add_get_route(config, "readyz", "/readyz")
    add_open_route(config, EVENTS_ROUTE, EVENTS_PATH, "POST")
    add_get_route(config, DATAFILE_ROUTE, DATAFILE_PATH)
    config.registry[KEPT] = KeptDatafiles(config.registry["settings"])
    config.scan(__name__)
