"""Bearer token -> identity, and what that identity may see.

The projects service knows the tokens, by hash only: a token never leaves the gateway. An accepted one is trusted for
`identity_cache_seconds`, so a revoked token works for at most that long.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache
from pyramid.config import Configurator
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import EXCVIEW, MAIN

from .contract import CONTRACT
from .errors import Forbidden, Unauthorized
from .runtime import synchronize
from .settings import Settings
from .upstream import calls
from .upstream.errors import EntityNotFound
from .view_kind import BLOCKING

Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: an account of the projects service."""

    account_id: int


def check_account(identity: Identity, entity: Mapping[str, Any], what: str) -> None:
    """Raise Forbidden when an entity with an `account_id` belongs to another account."""
    if entity["account_id"] != identity.account_id:
        raise Forbidden(what)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header (RFC 6750 section 2.1); raises Unauthorized."""
    if not authorization:
        raise Unauthorized("Send your personal token as `Authorization: Bearer <token>`.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("The Authorization header is not of the form `Bearer <token>`.")
    return token.strip()


def token_sha256(token: str) -> str:
    """The hash by which the projects service knows a token (lower-case hex)."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class IdentityCache:
    """Identities of accepted tokens by hash, bounded in number and age; refused tokens are not kept."""

    def __init__(self, settings: Settings) -> None:
        self._lock = (
            threading.Lock()
        )  # the blocking application has threads, and a TTLCache is not made for them
        seconds, entries = settings.identity_cache_seconds, settings.identity_cache_entries
        self._known: TTLCache[str, Identity] | None = (
            TTLCache(entries, seconds, timer=time.monotonic) if seconds else None
        )

    def get(self, token_hash: str) -> Identity | None:
        if self._known is None:
            return None
        with self._lock:
            try:
                return self._known[token_hash]  # get() would look twice
            except KeyError:
                return None

    def keep(self, token_hash: str, identity: Identity) -> Identity:
        if self._known is not None:
            with self._lock:
                self._known[token_hash] = identity
        return identity


def identity_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Give every request of an operation its `caller`, an Identity, or answer 401.

    No other view under the contract's basePath shows anything of an account: `contract.routes.check_views` lets no
    such route be.
    """
    operations = registry[CONTRACT].operations
    routes = registry.getUtility(IRoutesMapper)
    cache = IdentityCache(registry["settings"])
    fetch = _fetch_blocking if registry.get(BLOCKING) else synchronize(_fetch)

    def identify(request: Request) -> Identity:
        token_hash = token_sha256(bearer_token(request.environ.get("HTTP_AUTHORIZATION")))
        if known := cache.get(token_hash):
            return known
        try:
            token = fetch(request, calls.identify(token_hash))
        except EntityNotFound:
            raise Unauthorized("The token is unknown or was revoked.") from None
        return cache.keep(token_hash, Identity(token["account_id"]))

    def identity_tween(request: Request) -> Response:
        route = routes(request)["route"]
        if route is not None and route.name in operations:
            request.caller = identify(request)
        return handler(request)

    return identity_tween


async def _fetch(request: Request, call: calls.Call) -> Any:
    return await request.fetch(call)


def _fetch_blocking(request: Request, call: calls.Call) -> Any:
    return request.fetch(call)


def includeme(config: Configurator) -> None:
    """Put the identity tween inside the exception views, for its 401 has the one shape, and before validation."""
    config.add_tween(
        "optimizely_api.security.identity_tween_factory",
        under=EXCVIEW,
        over=("pyramid_swagger.tween.validation_tween_factory", MAIN),
    )
