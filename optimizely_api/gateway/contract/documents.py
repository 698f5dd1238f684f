"""The contract as documents: `/v2/swagger.json` and `/v2/swagger.yaml`, open to everybody.

They name no host and no scheme, so that clients call the address they read the document from: a Swagger client
sends its token to the host that the document names. `basePath` begins with the prefix that a proxy has cut off.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
import yaml
from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract.load import CONTRACT, Contract, Json
from optimizely_api.gateway.contract.routes import add_get_route, address_prefix

MOST_DOCUMENTS = 32  # in memory; a gateway is usually reached under one prefix

# The one in C takes a sixth of the time at each start.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Write = Callable[[Json], bytes]


def document_view(contract: Contract, write: Write, content_type: str) -> Callable[[Any, Request], Response]:
    """A view that answers with the document; `gateway/finishing.py` compresses it, or makes it a 304."""

    _written(contract, write, "")

    def document(context: Any, request: Request) -> Response:
        body, etag = _written(contract, write, address_prefix(request))
        response = Response(body, content_type=content_type, etag=etag)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response

    return document


@lru_cache(maxsize=MOST_DOCUMENTS)
def _written(contract: Contract, write: Write, prefix: str) -> tuple[bytes, str]:
    """(body, ETag) of the document under a prefix."""
    body = write({**contract.document, "basePath": prefix + contract.base_path})
    return body, hashlib.sha256(body).hexdigest()[:32]


def _as_yaml(document: Json) -> bytes:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text.encode()


def includeme(config: Configurator) -> None:
    contract: Contract = config.registry[CONTRACT]
    for name, write, content_type in (
        ("swagger_json", orjson.dumps, "application/json"),
        ("swagger_yaml", _as_yaml, "application/yaml"),  # RFC 9512
    ):
        add_get_route(config, name, f"{contract.base_path}/{name.replace('_', '.')}")
        config.add_view(
            document_view(contract, write, content_type), route_name=name, mapper=DefaultViewMapper
        )
