"""Where people begin: `/`, `/v2` and `/v2/` lead a browser to the docs page, and tell a program what is where."""

import orjson
from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract.load import CONTRACT, Contract
from optimizely_api.gateway.contract.routes import add_get_route, address_prefix


def includeme(config: Configurator) -> None:
    contract: Contract = config.registry[CONTRACT]

    def entrance(context: object, request: Request) -> Response:
        prefix = address_prefix(request)
        # Browsers name text/html; programs that take anything (`*/*`) get what they can read.
        if "text/html" in request.environ.get("HTTP_ACCEPT", "").lower():
            return HTTPSeeOther(f"{prefix}/docs", headers={"Vary": "Accept"})
        places = {
            "api": f"{prefix}{contract.base_path}",
            "contract": f"{prefix}{contract.base_path}/swagger.json",
            "docs": f"{prefix}/docs",
        }
        return Response(
            orjson.dumps(places), headerlist=[("Content-Type", "application/json"), ("Vary", "Accept")]
        )

    for name, path in (
        ("root", "/"),
        ("api_root", contract.base_path),
        ("api_root_slash", f"{contract.base_path}/"),
    ):
        add_get_route(config, name, path)
        config.add_view(entrance, route_name=name, mapper=DefaultViewMapper)
