"""Bearer token -> identity, and what that identity may see.

The projects service knows the tokens, by hash only: a token never leaves the gateway. An accepted one is trusted for
`identity_cache_seconds`, so a revoked token works for at most that long; a refused one is refused for
`unknown_token_seconds`, so a token that was tried before it was created works that much later.

While the projects service does not answer, an accepted token goes on reading, and never writing, for
`stale_if_error_identity_seconds` since it was accepted last, unless it was refused since. So a token that is revoked
during an outage reads until the service answers again. A time-out is no outage where the caller's own deadline
(`X-Request-Timeout-Ms`) is shorter than the service's time limit: a revoked token could read on by giving up early.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache, TTLCache
from pyramid.config import Configurator
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract import CONTRACT
from optimizely_api.gateway import BLOCKING, add_tween
from optimizely_api.gateway.admission import ACCOUNTS
from optimizely_api.gateway.errors import Forbidden, Unauthorized
from optimizely_api.gateway.roles import RENEW, Role
from optimizely_api.gateway.settings import Settings
from optimizely_api.runtime import synchronize
from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.generations import Refusals
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    EntityNotFound,
    UpstreamError,
    UpstreamUnavailable,
)
from optimizely_api.upstream.resilience.stale import ASK_AGAIN_SECONDS

UNKNOWN = "The token is unknown or was revoked."
TOO_MANY = "Too many unknown tokens are being asked about; send the request again."

Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: an account of the projects service, by a token that has a name and perhaps a user.

    `roles` are the user's by project; None for an administrator, as which a token without a user counts.
    """

    account_id: int
    token_id: int = 0
    token_name: str = ""
    user_id: str = ""
    email: str = ""
    names: tuple[str, str] = ("", "")  # first and last
    roles: Mapping[int, Role] | None = None

    @property
    def recorded_as(self) -> tuple[str, str]:
        """The id and name that the history of changes has: the user's, or else the token's."""
        return (self.user_id, self.email) if self.user_id else (str(self.token_id), self.token_name)


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
    """Identities of accepted tokens by hash, and refused hashes for a shorter time; bounded in number and age.

    `refusals` are those of all workers that share them.
    """

    def __init__(self, settings: Settings, refusals: Refusals | None = None) -> None:
        self.refusals = refusals or Refusals()
        self._lock = (
            threading.Lock()
        )  # the blocking application has threads, and a TTLCache is not made for them
        entries = settings.identity_cache_entries
        self._known = _ttl_cache(entries, settings.identity_cache_seconds)
        self._unknown = _ttl_cache(entries, settings.unknown_token_seconds)
        # Longer than their identities, so that a flood of unknown tokens does not stand in an old caller's way; with
        # the identity, and the time at which it was the token's.
        self._accepted: LRUCache[str, tuple[Identity, float, int]] = LRUCache(entries)
        self._stale_seconds = settings.stale_if_error_identity_seconds
        self._out = _ttl_cache(entries, ASK_AGAIN_SECONDS)  # asked about a moment ago, without an answer

    def get(self, token_hash: str, *, takes_stale: bool = False) -> Identity | None:
        """Who the token belongs to, as far as is known; raises Unauthorized when it was refused a moment ago.

        With `takes_stale` that of an earlier time, where the projects service did not answer a moment ago.
        """
        with self._lock:
            try:
                known: Identity = self._known[token_hash]  # get() would look twice
                return known
            except KeyError:
                pass
            if token_hash in self._unknown:
                raise Unauthorized(UNKNOWN)
            return self._kept(token_hash) if takes_stale and token_hash in self._out else None

    def keep(self, token_hash: str, identity: Identity, refusals: int) -> Identity:
        """`refusals` is the token's generation of them from before it was asked about."""
        with self._lock:
            self._known[token_hash] = identity
            self._accepted[token_hash] = identity, time.monotonic(), refusals
            self._out.pop(token_hash, None)
        return identity

    def refuse(self, token_hash: str) -> None:
        self.refusals.note(token_hash)
        with self._lock:
            self._unknown[token_hash] = None
            self._accepted.pop(token_hash, None)
            self._out.pop(token_hash, None)

    def after_outage(self, token_hash: str, outage: UpstreamError) -> Identity:
        """The identity to read with although the projects service does not answer; raises the outage without one."""
        with self._lock:
            kept = self._kept(token_hash)
            if kept is None:
                raise outage
            self._out[token_hash] = None
        return kept

    def _kept(self, token_hash: str) -> Identity | None:
        identity, accepted, refusals = self._accepted.get(token_hash, (None, 0.0, 0))
        is_recent = time.monotonic() - accepted < self._stale_seconds
        return identity if is_recent and refusals == self.refusals.generation(token_hash) else None

    def was_accepted(self, token_hash: str) -> bool:
        """Whether the token was good when it was last asked about."""
        with self._lock:
            return token_hash in self._accepted


def _ttl_cache(entries: int, seconds: float) -> "TTLCache[str, Any]":
    """With no seconds it remembers nothing: each entry is too old at once."""
    return TTLCache(entries, seconds, timer=time.monotonic)


class Identification:
    """Asks the projects service whose a token is, about few unknown ones at a time.

    Guessing tokens is cheap, and each guess is a query: without a bound, the calls of good callers to the same service
    would wait behind those of whoever guesses. A token that was accepted before does not wait for its turn.
    """

    def __init__(self, settings: Settings, cache: IdentityCache) -> None:
        self._cache = cache
        self._turns = asyncio.Semaphore(settings.identity_calls)
        self._wait_seconds = settings.identity_wait_seconds

    async def fetch(self, request: Request, call: Call, token_hash: str) -> Identity:
        """The token's identity; raises EntityNotFound, Unauthorized or another UpstreamError."""
        if self._cache.was_accepted(token_hash):
            return _identity(await request.fetch(call))
        await self._take_turn()
        try:
            # Somebody else may have asked meanwhile.
            return self._cache.get(token_hash) or _identity(await request.fetch(call))
        finally:
            self._turns.release()

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise UpstreamUnavailable("projects", TOO_MANY) from None


def _identity(token: Mapping[str, Any]) -> Identity:
    own = token["account_id"], token.get("token_id", 0), token.get("name", "")
    user = token.get("user")
    if user is None:
        return Identity(*own)
    roles = None if user["is_administrator"] else _roles(user["roles"])
    names = user.get("first_name", ""), user.get("last_name", "")
    return Identity(*own, user["id"], user["email"], names, roles)


def _roles(roles: Mapping[str, str]) -> dict[int, Role]:
    try:
        return {int(project_id): Role[role.upper()] for project_id, role in roles.items()}
    except (KeyError, ValueError):
        raise BadUpstreamResponse("projects", "a user has an unknown role, or one in no project") from None


def identity_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Give every request of an operation its `identity`, or respond with 401.

    No other view under the contract's basePath shows anything of an account: `contract.routes.check_views` lets no
    such route be.
    """
    operations = registry[CONTRACT].operations
    routes = registry.getUtility(IRoutesMapper)
    cache = IdentityCache(registry["settings"], Refusals(shared_memory()))
    time_limit_seconds = registry["settings"].projects_timeout_seconds
    accounts = registry[ACCOUNTS]
    fetch = (
        _fetch_blocking
        if registry.get(BLOCKING)
        else synchronize(Identification(registry["settings"], cache).fetch)
    )

    def identify(request: Request) -> Identity:
        token_hash = token_sha256(bearer_token(request.environ.get("HTTP_AUTHORIZATION")))
        context = request.call_context
        takes_stale = context.takes_stale
        if known := cache.get(token_hash, takes_stale=takes_stale):
            return known
        refusals = cache.refusals.generation(token_hash)
        wait_seconds = context.deadline - time.monotonic()
        try:
            identity = fetch(request, calls.identify(token_hash), token_hash)
            return cache.keep(token_hash, identity, refusals)
        except EntityNotFound:
            cache.refuse(token_hash)
            raise Unauthorized(UNKNOWN) from None
        except UpstreamError as exc:
            if takes_stale and context.shows_outage(exc, wait_seconds, time_limit_seconds):
                return cache.after_outage(token_hash, exc)
            raise

    async def renew(request: Request) -> Identity:
        """The identity as the projects service has it at this moment; raises an UpstreamError."""
        token_hash = token_sha256(bearer_token(request.environ.get("HTTP_AUTHORIZATION")))
        refusals = cache.refusals.generation(token_hash)
        try:
            identity = _identity(await request.fetch(calls.identify(token_hash)))
        except EntityNotFound:
            cache.refuse(token_hash)
            raise Unauthorized(UNKNOWN) from None
        request.identity = cache.keep(token_hash, identity, refusals)
        return identity

    registry[RENEW] = renew

    def identity_tween(request: Request) -> Response:
        route = routes(request)["route"]
        if route is not None and route.name in operations:
            request.identity = identify(request)
            account_id = request.call_context.account_id = request.identity.account_id
            accounts.keep(request.environ["HTTP_AUTHORIZATION"], account_id)
        return handler(request)

    return identity_tween


def _fetch_blocking(request: Request, call: Call, _token_hash: str) -> Identity:
    return _identity(request.fetch(call))


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.identity_tween_factory")
