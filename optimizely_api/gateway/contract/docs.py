"""The docs page at `/docs`: Swagger UI, from a package and from memory, talking to no other host.

What it shows beyond Swagger UI follows from the contract that it reads: `docs_page/start.js` names the plugins. It runs
scripts of its own origin only, none of them inline, and may not be framed. "Authorize" takes the token, with or
without `Bearer `, and forgets it when the page is left.
"""

import functools
import hashlib
import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.httpexceptions import HTTPNotFound, HTTPPermanentRedirect
from pyramid.request import Request
from pyramid.response import Response
from swagger_ui_bundle import swagger_ui_path

from optimizely_api.gateway.contract.guides import GUIDES, page_of
from optimizely_api.gateway.contract.routes import add_get_route, address_prefix

PAGE = "index.html"
FILES = {  # name -> media type
    PAGE: "text/html",
    "page.css": "text/css",
    "scheme.js": "text/javascript",
    "start.js": "text/javascript",
    "filtering.js": "text/javascript",
    "naming.js": "text/javascript",
    "reading.js": "text/javascript",
    "sampling.js": "text/javascript",
    "languages.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
SAFETY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, ready to be sent."""

    media_type: str
    body: bytes
    etag: str


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """Read the page's files, once per process: they belong to installed packages."""
    ours = importlib.resources.files(__package__) / "docs_page"
    read = {name: _read(ours / name, Path(str(swagger_ui_path)) / name) for name in FILES}
    files = {name: _static_file(FILES[name], body) for name, body in read.items()}
    return files | {name: _static_file("text/html", page_of(name)) for name in GUIDES}


def _read(*candidates: Any) -> bytes:
    return next(bytes(candidate.read_bytes()) for candidate in candidates if candidate.is_file())


def _static_file(media_type: str, body: bytes) -> StaticFile:
    return StaticFile(media_type, body, hashlib.sha256(body).hexdigest()[:32])


def file_view(files: dict[str, StaticFile]) -> Callable[[Any, Request], Response]:
    """A view that sends a file of the page, or the page; `gateway/finishing.py` compresses it or makes a 304 of it."""

    def docs_file(context: Any, request: Request) -> Response:
        file = files.get(request.matchdict.get("file", PAGE))
        if file is None:
            raise HTTPNotFound
        response = Response(
            file.body,
            content_type=file.media_type,
            charset="utf-8" if file.media_type.startswith("text/") else None,
            etag=file.etag,
        )
        response.headers.update(SAFETY)
        response.headers["Cache-Control"] = (
            "no-cache" if file.media_type == "text/html" else "public, max-age=3600"
        )
        return response

    return docs_file


def to_docs(context: Any, request: Request) -> Response:
    """`/docs/` is `/docs`: the page's addresses are relative to it."""
    return HTTPPermanentRedirect(f"{address_prefix(request)}/docs", headers=dict(SAFETY))


def includeme(config: Configurator) -> None:
    docs_file = file_view(static_files())
    for name, path, view in (
        ("docs", "/docs", docs_file),
        ("docs_slash", "/docs/", to_docs),
        ("docs_file", "/docs/{file}", docs_file),
    ):
        add_get_route(config, name, path)
        config.add_view(view, route_name=name, mapper=DefaultViewMapper)
