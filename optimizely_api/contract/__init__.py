"""The Swagger contract at run time: loaded, validated, served, and held against every request and response.

    config.include("optimizely_api.contract")
    config.scan("optimizely_api.views")

gives the application a route per operation, named after its operationId; a view names it:

    @view_config(route_name="get_project", renderer="json")
    async def get_project(request): ...

When the application is made, an operation without a view and a view without an operation are errors. Adding an
operation means an entry in `swagger/` and a view.

The contract is that of `load()`, unless `registry[CONTRACT]` holds another one before the include.
"""

from pyramid.config import Configurator

from optimizely_api.contract import without_iri  # noqa: F401  # isort: skip - before what imports jsonschema
from optimizely_api.contract.compiled import match_routes_once
from optimizely_api.contract.load import CONTRACT, Contract, InvalidContract, Operation, load, subset
from optimizely_api.contract.validators import ResponseValidators

__all__ = ["CONTRACT", "Contract", "InvalidContract", "Operation", "ResponseValidators", "load", "subset"]


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
