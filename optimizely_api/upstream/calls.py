"""The calls that the gateway makes to its services, as values: no IO, so that every fan-out can send them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

Query = tuple[tuple[str, str], ...]
Key = tuple[Any, ...]
Pairs = tuple[tuple[str, Any], ...]

LONGEST_USER_AGENT = 512  # characters; those of browsers and bots are shorter

_NOT_PRINTABLE = re.compile("[^ -~]")  # what may not stand in a header
_SECRET = re.compile("(?<=/tokens/)[^/]+")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1


@dataclass  # not frozen, which would take five times as long to make: a request makes four
class Call:
    """One request to a service; a `body` of bytes is sent as it is, and `coding` names its content coding.

    `expects` names the shape that a 200 must have (`shapes.py`); `entity` names what a 404 means, and is empty
    where a 404 would break the agreement. `changes_nothing` is said of a call that only asks although its method
    is not safe: of any other it is taken for granted that it changes what lies at its path. `kept_as` says how
    long a 200 may be used again (`saving.py`); empty means not at all. `about` are the properties that show that an
    answer is to this question: a 200, or each item of a list, must have them. `user_agent` is the caller's, for
    a service that needs it; empty means ours. `if_match` is the version of the entity that a write is meant for, and
    `user` the id and name of who writes, for the history of changes.
    """

    upstream: str
    path: str
    expects: str
    entity: str = ""
    method: str = "GET"
    query: Query = ()
    body: Mapping[str, Any] | bytes | None = None
    changes_nothing: bool = False
    kept_as: Literal["", "definition", "results"] = ""
    about: Pairs = ()
    coding: str = ""
    user_agent: str = ""
    if_match: str = ""
    user: tuple[int, str] | None = None

    _content: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _key: Key | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def is_safe(self) -> bool:
        """Whether it may be sent twice, shared and answered from memory."""
        return self.changes_nothing or self.method in SAFE_METHODS

    def __repr__(self) -> str:
        """Without what may not stand in a log: the hash of a token in a path."""
        return f"<Call {self.method} {self.upstream} {_SECRET.sub('-', self.path)!r}>"

    # Not cached properties, whose lock, in Python 3.11, takes longer than what they keep.

    @property
    def content(self) -> bytes:
        """The body as it is sent; empty without one."""
        if self._content is None:
            if isinstance(self.body, bytes):
                self._content = self.body
            else:
                self._content = b"" if self.body is None else orjson.dumps(self.body)
        return self._content

    @property
    def key(self) -> Key:
        """Equal for calls whose good answers are the same value: all of the call but what a 404 means."""
        if self._key is None:
            self._key = (self.path, self.upstream, self.method, self.query, self.content, self.expects)
        return self._key


def identify(token_sha256: str) -> Call:
    """Who a token belongs to: not kept here, for `identity_cache_seconds` bounds how long a revoked one works."""
    about = (("token_sha256", token_sha256),)
    return Call("projects", f"/tokens/{token_sha256}", "Token", entity="such token", about=about)


def get_project(project_id: int) -> Call:
    return _definition("projects", "/projects/", project_id, "Project", "project")


def list_projects(account_id: int, page: "Page", filters: Iterable[str] = ()) -> Call:
    query = (("account_id", str(account_id)), *(("filter", text) for text in filters), *page.query)
    return Call("projects", "/projects", "ProjectList", query=query, about=(("account_id", account_id),))


def get_experiment(experiment_id: int) -> Call:
    return _definition("experiments", "/experiments/", experiment_id, "Experiment", "experiment")


def list_experiments(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    """`filters`: `project_id`, `campaign_id` and `include_classic`, each optional."""
    return _list("/experiments", "ExperimentList", account_id, page, filters)


def get_layer(layer_id: int) -> Call:
    """The API calls a layer a campaign."""
    return _definition("experiments", "/layers/", layer_id, "Layer", "campaign")


def list_layers(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    return _list("/layers", "LayerList", account_id, page, filters)


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a service keeps the entities of one definition: all calls about them follow from it."""

    upstream: str
    path: str  # such as /attributes
    definition: str  # the contract's, and the shape of responses
    noun: str  # what a 404 calls one of them


def get_entity(of: Collection, entity_id: int, *, fresh: bool = False) -> Call:
    """With `fresh` the service is asked in any case, and not the cache."""
    call = _definition(of.upstream, f"{of.path}/", entity_id, of.definition, of.noun.replace("_", " "))
    if fresh:
        call.kept_as = ""
    return call


def list_entities(of: Collection, account_id: int, page: "Page", filters: Mapping[str, object]) -> Call:
    return _list(of.path, f"{of.definition}List", account_id, page, filters, of.upstream)


def create_entity(of: Collection, body: Mapping[str, Any], query: Query = ()) -> Call:
    about = tuple((name, body[name]) for name in ("account_id", "project_id") if name in body)
    return Call(of.upstream, of.path, of.definition, method="POST", body=body, query=query, about=about)


def update_entity(
    of: Collection, entity_id: int, body: Mapping[str, Any], query: Query = (), if_match: str = ""
) -> Call:
    call = _definition(of.upstream, f"{of.path}/", entity_id, of.definition, of.noun.replace("_", " "))
    call.kept_as, call.method, call.body, call.query, call.if_match = "", "PATCH", body, query, if_match
    return call


def archive_entity(of: Collection, entity_id: int, if_match: str = "") -> Call:
    what = f"{of.noun.replace('_', ' ')} {entity_id}"
    return Call(of.upstream, f"{of.path}/{entity_id}", "", what, method="DELETE", if_match=if_match)


def get_event(event_id: int) -> Call:
    return _definition("experiments", "/events/", event_id, "Event", "event")


def list_events(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    return _list("/events", "EventList", account_id, page, filters)


def compute_results(experiment_id: int, body: Mapping[str, Any]) -> Call:
    """A POST that changes nothing: it carries the definitions, which the results service does not own."""
    return Call(
        "results",
        f"/results/{experiment_id}",
        "Results",
        method="POST",
        body=body,
        changes_nothing=True,
        kept_as="results",
        about=(("experiment_id", experiment_id),),
    )


def store_events(batch: bytes, coding: str, user_agent: str = "") -> Call:
    """A batch of events as a caller sent it. It may be sent twice, for each event counts once, by its `uuid`.

    The results service recognises bots by the sender's user agent.
    """
    agent = _NOT_PRINTABLE.sub("?", user_agent[:LONGEST_USER_AGENT]).strip()
    return Call("results", "/v1/events", "", method="POST", body=batch, coding=coding, user_agent=agent)


def check_health(upstream: str) -> Call:
    return Call(upstream, "/healthz", "Health")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list; `number` starts at 1."""

    number: int
    size: int

    @property
    def query(self) -> Query:
        return (("page", str(self.number)), ("per_page", str(self.size)))


# The filters of lists that their items show, and under which name.
_SHOWN_FILTERS = {"project_id": "project_id", "campaign_id": "layer_id"}


def _definition(upstream: str, path: str, number: int, expects: str, noun: str) -> Call:
    about = (("id", number),)
    return Call(upstream, f"{path}{number}", expects, f"{noun} {number}", kept_as="definition", about=about)


def _list(
    path: str,
    expects: str,
    account_id: int,
    page: "Page",
    filters: Mapping[str, object] | None,
    upstream: str = "experiments",
) -> Call:
    chosen = {key: value for key, value in (filters or {}).items() if value is not None}
    query = (
        ("account_id", str(account_id)),
        *((key, _text(one)) for key, value in chosen.items() for one in _each(value)),
        *page.query,
    )
    shown = (
        (_SHOWN_FILTERS[key], value)
        for key, value in chosen.items()
        if key in _SHOWN_FILTERS and not isinstance(value, list)
    )
    return Call(upstream, path, expects, query=query, about=(("account_id", account_id), *shown))


def _each(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
