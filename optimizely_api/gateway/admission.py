"""The class of each request, for a worker that is overloaded (`serving/line.py`): what is served first.

- always: `/healthz` and `/readyz`
- events: batches of events, with browsers' preflights for them, since SDKs may not send a batch again
- people: writes, and reads of one entity
- ordinary: lists, results and whatever else the contract has to read, and browsers' preflights
- bulk: alpha operations, datafiles, documents, and every request without a token or with a token
  that this worker has not accepted yet

It is asked about each request that an overloaded worker gets, before there is a request: so it looks at bytes only.
"""

import re

from pyramid.config import Configurator

from optimizely_api.contract.load import CONTRACT, Contract, Operation
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.contract.routes import EVENTS_PATH
from optimizely_api.serving.line import ALWAYS, BULK, EVENTS, ORDINARY, PEOPLE

ACCOUNTS = "optimizely_api.gateway.accounts"  # on the registry: the KnownAccounts
HEALTH_PATHS = frozenset((b"/healthz", b"/readyz"))
_EVENTS = EVENTS_PATH.encode()
ANY_ID = b"*"
# Of all tokens that are not known: as an account each, invented ones would leave a caller without a token one turn in
# as many.
UNKNOWN_ACCOUNT = -1
_ENDS_WITH_AN_ID = re.compile(r"\{\w+_id\}$")

Place = tuple[bytes, bytes, int, bytes]  # method, first segment, number of segments, last segment or ANY_ID


class KnownAccounts:
    """The accounts of tokens that were accepted once, by a hash of their header.

    It holds no token, and a collision of Python's hashes only puts a request into another class.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._accounts: dict[int, int] = {}

    def get(self, header: bytes) -> int | None:
        return self._accounts.get(hash(header))

    def keep(self, header: str, account_id: int) -> None:
        """Remember the account of an Authorization header; the first of too many is forgotten."""
        key = hash(header.encode("latin-1"))
        if key in self._accounts:
            return
        if len(self._accounts) >= self._entries:
            del self._accounts[next(iter(self._accounts))]
        self._accounts[key] = account_id


class RequestClasses:
    """Returns (class, account) for method, path and Authorization header: the runtime's classifier."""

    def __init__(self, contract: Contract, accounts: KnownAccounts) -> None:
        self._accounts = accounts
        self._base = contract.base_path.encode() + b"/"
        self._classes = {
            _place(operation.method.encode(), operation.path.encode()): _class_of(operation)
            for operation in contract.operations.values()
        }

    def __call__(self, method: bytes, path: bytes, authorization: bytes | None) -> tuple[int, int]:
        if path in HEALTH_PATHS:
            return ALWAYS, 0
        if path == _EVENTS:
            return EVENTS, 0
        if method == b"OPTIONS":
            return ORDINARY, 0
        if authorization is None or not path.startswith(self._base):
            return BULK, 0
        account = self._accounts.get(authorization)
        if account is None:
            return BULK, UNKNOWN_ACCOUNT
        place = _place(b"GET" if method == b"HEAD" else method, path)
        found = self._classes.get(place)
        if found is None:
            found = self._classes.get((*place[:3], ANY_ID), BULK)
        return found, account


def _place(method: bytes, path: bytes) -> Place:
    segments = path.split(b"/", 8)
    last = segments[-1]
    return method, segments[2], len(segments), ANY_ID if last[:1] == b"{" else last


def _class_of(operation: Operation) -> int:
    if operation.spec.get("x-release-state") == "alpha":
        return BULK
    is_small = operation.method != "GET" or _ENDS_WITH_AN_ID.search(operation.path)
    return PEOPLE if is_small else ORDINARY


def includeme(config: Configurator) -> None:
    registry = config.registry
    registry[ACCOUNTS] = KnownAccounts(registry["settings"].identity_cache_entries)
    if not registry.get(BLOCKING):
        config.set_classifier(RequestClasses(registry[CONTRACT], registry[ACCOUNTS]))
