"""The contract as documents: `/v2/swagger.json` and `/v2/swagger.yaml`, open to everybody and every origin.

They name no host and no scheme, so that clients call the address they read the document from: a Swagger client
sends its token to the host that the document names.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
import yaml
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from ..errors import MethodNotAllowed
from ..view_kind import as_view
from .load import CONTRACT, Contract

CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, If-None-Match",
    "Access-Control-Expose-Headers": "ETag",
}


def document_view(body: bytes, content_type: str) -> Callable[[Any, Request], Response]:
    """A view that answers with `body`; `answers.py` compresses it, and makes it a 304 for a client that has it."""
    etag = hashlib.sha256(body).hexdigest()[:32]

    def document(context: Any, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headerlist=[*CROSS_ORIGIN.items(), ("Allow", "GET, HEAD, OPTIONS")])
        if request.method != "GET":  # HEAD comes as GET
            raise MethodNotAllowed(request.method, ["GET", "HEAD", "OPTIONS"])
        response = Response(body, content_type=content_type, etag=etag)
        response.headers.update(CROSS_ORIGIN)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response

    return document


def includeme(config: Configurator) -> None:
    contract: Contract = config.registry[CONTRACT]
    as_yaml = yaml.safe_dump(contract.document, sort_keys=False, allow_unicode=True, width=110).encode()
    for name, body, content_type in (
        ("swagger_json", orjson.dumps(contract.document), "application/json"),
        ("swagger_yaml", as_yaml, "application/yaml"),  # RFC 9512
    ):
        path = f"{contract.base_path}/{name.replace('_', '.')}"
        config.add_route(name, path)
        config.add_view(as_view(config, document_view(body, content_type)), route_name=name)
