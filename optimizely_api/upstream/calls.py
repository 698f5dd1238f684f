"""The calls that the gateway makes to its services, as values: without IO, so that every client can send them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import orjson

Query = tuple[tuple[str, str], ...]
Key = tuple[Any, ...]
Pairs = tuple[tuple[str, Any], ...]

LONGEST_USER_AGENT = 512  # characters; those of browsers and bots are shorter

_NOT_PRINTABLE = re.compile("[^ -~]")  # not allowed in a header
_SECRET = re.compile("(?<=/tokens/)[^/]+")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1


@dataclass  # not frozen: freezing makes construction five times slower, and each request constructs four
class Call:
    """One request to a service.

    - `expects`: the shape that a 200 must have (`shapes.py`).
    - `entity`: what a 404 says is missing, such as "project 1"; with an empty one a 404 is a fault of the service.
    - `body`: bytes are sent as they are, with `coding` as their Content-Encoding; anything else is sent as JSON.
    - `changes_nothing` marks a POST that only reads. Every other unsafe call is assumed to modify its path.
    - `cached_as`: the cache for a 200 (`caching/caching_client.py`); empty for none.
    - `about`: properties that a 200, or each item of a list, must have; others mean the response is to another call.
    - `user_agent`: the caller's, for a service that needs it; empty for the gateway's own.
    - `wait_seconds`: how long the service shall wait for a computation before it answers 202; None for no limit.
    - `if_match`: the version of the entity that a write is meant for; empty for any.
    - `user`: the id and name of who writes, for the history of changes.
    - `operation`: what the call carries out; a service makes something new once for it. Empty: for each call.
    - `is_optional`: whether `fetch_all` returns an outage of the service in place of the value, and raises nothing.
    """

    upstream: str
    path: str
    expects: str
    entity: str = ""
    method: str = "GET"
    query: Query = ()
    body: Mapping[str, Any] | bytes | None = None
    changes_nothing: bool = False
    cached_as: Literal["", "definition", "datafile", "results"] = ""
    about: Pairs = ()
    coding: str = ""
    user_agent: str = ""
    wait_seconds: float | None = None
    if_match: str = ""
    user: tuple[str, str] | None = None
    operation: str = ""
    is_optional: bool = False

    _content: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _key: Key | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def is_safe(self) -> bool:
        """Whether it may be repeated, shared with other requests and replaced by a cached value."""
        return self.changes_nothing or self.method in SAFE_METHODS

    @property
    def may_wait(self) -> bool:
        """Whether it may be sent again when a busy service has said when to return.

        Not a health check, which asks just that; nor a batch of events, whose sender is told instead.
        """
        return self.is_safe and self.expects != "Health"

    def __repr__(self) -> str:
        """For logs: without the hash of a token that a path may contain."""
        return f"<Call {self.method} {self.upstream} {_SECRET.sub('-', self.path)!r}>"

    # Not `cached_property`: in Python 3.11 its lock costs more than the computation.

    @property
    def content(self) -> bytes:
        """The bytes of the body; empty without a body."""
        if self._content is None:
            if isinstance(self.body, bytes):
                self._content = self.body
            else:
                self._content = b"" if self.body is None else orjson.dumps(self.body)
        return self._content

    @property
    def key(self) -> Key:
        """Equal for calls whose 200 has the same value: everything but `entity`, which only matters for a 404."""
        if self._key is None:
            self._key = (self.path, self.upstream, self.method, self.query, self.content, self.expects)
        return self._key


def identify(token_sha256: str) -> Call:
    """Find the account of a token. Not cached here: `identity_cache_seconds` bounds how long a revoked token works."""
    about = (("token_sha256", token_sha256),)
    return Call("projects", f"/tokens/{token_sha256}", "Token", entity="such token", about=about)


def claim_key(key_sha256: str, token_id: int, request_sha256: str, lease_seconds: int) -> Call:
    """Let one request carry out what a token's idempotency key stands for; how far it is otherwise."""
    body = {
        "key_sha256": key_sha256,
        "token_id": token_id,
        "request_sha256": request_sha256,
        "lease_seconds": lease_seconds,
    }
    about = (("key_sha256", key_sha256),)
    return Call("projects", "/idempotency_keys", "Claim", method="POST", body=body, about=about)


def store_answer(operation: str, status: int, entity_tag: str, body: bytes) -> Call:
    """Keep the answer to the requests that have the operation's key."""
    query = (("status", str(status)), *((("entity_tag", entity_tag),) if entity_tag else ()))
    return Call("projects", f"/idempotency_keys/{operation}", "", method="PUT", query=query, body=body)


def release_key(operation: str) -> Call:
    """Let another request carry out the operation: this one has come to no answer that could be kept."""
    return Call("projects", f"/idempotency_keys/{operation}", "", method="DELETE")


def get_account(account_id: int) -> Call:
    about = (("id", account_id),)
    return Call("projects", f"/accounts/{account_id}", "Account", f"account {account_id}", about=about)


def list_users(account_id: int, page: "Page", project_ids: Iterable[int] = ()) -> Call:
    """The account's users; with `project_ids` those who have a role in all of these."""
    query = (*(("project_id", str(number)) for number in project_ids), *page.query)
    about = (("account_id", account_id),)
    return Call("projects", f"/accounts/{account_id}/users", "UserList", query=query, about=about)


def get_export(request_id: int) -> Call:
    """The file that a subject access request has found, in Base64."""
    path, missing = f"/subject_access_requests/{request_id}/export", f"export of request {request_id}"
    return Call("projects", path, "SarExport", missing, about=(("id", request_id),))


def get_project(project_id: int) -> Call:
    return _definition("projects", "/projects/", project_id, "Project", "project")


def list_projects(account_id: int, page: "Page", filters: Iterable[str] = (), user_id: str = "") -> Call:
    """With a `user_id` those that the user has a role in."""
    of_user = (("user_id", user_id),) if user_id else ()
    query = (("account_id", str(account_id)), *of_user, *(("filter", text) for text in filters), *page.query)
    return Call("projects", "/projects", "ProjectList", query=query, about=(("account_id", account_id),))


def get_experiment(experiment_id: int) -> Call:
    return _definition("experiments", "/experiments/", experiment_id, "Experiment", "experiment")


def list_experiments(account_id: int, page: "Page", filters: Mapping[str, object] | None = None) -> Call:
    """`filters`: `project_id`, `campaign_id`, `archived` and `include_classic`, each optional."""
    return _list("/experiments", "ExperimentList", account_id, page, filters)


def list_experiment_labels(account_id: int, experiment_ids: Sequence[int]) -> Call:
    """Names, states and projects of those of the experiments that are the account's."""
    ids, page = {"id": list(experiment_ids)}, Page(1, len(experiment_ids))
    return _list("/experiment_labels", "ExperimentLabelList", account_id, page, ids)


def count_impressions(first_day: date, last_day: date, after_id: int, limit: int) -> Call:
    """The decision events of experiments that had any between two days (UTC), both included, of all accounts.

    At most `limit` experiments by id, those after `after_id`.
    """
    days = {"first_day": first_day.isoformat(), "last_day": last_day.isoformat()}
    about = {**days, "after_id": after_id}
    return Call(
        "results",
        "/impressions",
        "Impressions",
        method="POST",
        body={**about, "limit": limit},
        changes_nothing=True,
        about=tuple(about.items()),
    )


def list_decisions(account_id: int, visitor_id: str, interval: Mapping[str, int], page: "Page") -> Call:
    """The first decisions about a visitor in the interval, `{"start_time", "end_time"}` in milliseconds or none."""
    about = {"account_id": account_id, "visitor_id": visitor_id}
    body = {**about, **interval, "page": page.number, "per_page": page.size}
    about_it = tuple(about.items())
    return Call(
        "results", "/decisions", "Decisions", method="POST", body=body, changes_nothing=True, about=about_it
    )


def get_layer(layer_id: int) -> Call:
    """The public API calls a layer a campaign."""
    return _definition("experiments", "/layers/", layer_id, "Layer", "campaign")


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a service has the entities of one definition; every call about them is built from this."""

    upstream: str
    path: str  # such as /attributes
    definition: str  # its name in the contract
    noun: str  # the word for one entity in the message of a 404
    own_shape: str = ""  # of the responses, where its name is not that of the definition

    @property
    def shape(self) -> str:
        return self.own_shape or self.definition


def get_entity(of: Collection, entity_id: int, *, fresh: bool = False) -> Call:
    """With `fresh` the call always goes to the service, never to the cache."""
    call = _definition(of.upstream, f"{of.path}/", entity_id, of.shape, of.noun.replace("_", " "))
    if fresh:
        call.cached_as = ""
    return call


def list_entities(of: Collection, account_id: int, page: "Page", filters: Mapping[str, object]) -> Call:
    return _list(of.path, f"{of.shape}List", account_id, page, filters, of.upstream)


def create_entity(of: Collection, body: Mapping[str, Any], query: Query = ()) -> Call:
    about = tuple((name, body[name]) for name in ("account_id", "project_id") if name in body)
    return Call(of.upstream, of.path, of.shape, method="POST", body=body, query=query, about=about)


def update_entity(
    of: Collection, entity_id: int, body: Mapping[str, Any], query: Query = (), if_match: str = ""
) -> Call:
    call = _definition(of.upstream, f"{of.path}/", entity_id, of.shape, of.noun.replace("_", " "))
    call.cached_as, call.method, call.body, call.query, call.if_match = "", "PATCH", body, query, if_match
    return call


def archive_entity(of: Collection, entity_id: int, if_match: str = "") -> Call:
    what = f"{of.noun.replace('_', ' ')} {entity_id}"
    return Call(of.upstream, f"{of.path}/{entity_id}", "", what, method="DELETE", if_match=if_match)


def compute_results(experiment_id: int, body: Mapping[str, Any]) -> Call:
    return _computed(experiment_id, "", "Results", body)


def compute_timeseries(experiment_id: int, body: Mapping[str, Any]) -> Call:
    """The same question, answered for many times of its interval."""
    return _computed(experiment_id, "/timeseries", "Timeseries", body)


def _computed(experiment_id: int, what: str, expects: str, body: Mapping[str, Any]) -> Call:
    """A POST that only reads: its body holds the definitions, which the results service does not store."""
    return Call(
        "results",
        f"/results/{experiment_id}{what}",
        expects,
        method="POST",
        body=body,
        changes_nothing=True,
        cached_as="results",
        about=(("experiment_id", experiment_id),),
    )


def store_events(batch: bytes, coding: str, user_agent: str = "") -> Call:
    """Forward a batch of events as the caller sent it. It may be repeated: the `uuid` of an event makes it count once.

    The results service recognises bots by the caller's user agent.
    """
    agent = _NOT_PRINTABLE.sub("?", user_agent[:LONGEST_USER_AGENT]).strip()
    return Call("results", "/v1/events", "", method="POST", body=batch, coding=coding, user_agent=agent)


def find_sdk_key(sdk_key: str) -> Call:
    """Find the environment of an SDK key."""
    about = (("sdk_key", sdk_key),)
    return Call("projects", f"/sdk_keys/{sdk_key}", "SdkKey", "environment of this SDK key", about=about)


def register_environments(body: Mapping[str, Any], *, changes_nothing: bool) -> Call:
    """Name a project's environments, and learn of the datafile of each.

    With `changes_nothing` what is named was only read: that may be known already, and no kept value is out of date.
    """
    return Call(
        "experiments",
        "/datafiles",
        "Registered",
        method="POST",
        body=body,
        changes_nothing=changes_nothing,
    )


def register_projects(projects: Iterable[Mapping[str, Any]]) -> Call:
    """Name projects for the web with their settings, and learn of the snippet of each."""
    return Call(
        "experiments",
        "/snippets",
        "Snippets",
        method="POST",
        body={"projects": list(projects)},
        changes_nothing=True,
    )


def get_built_datafile(sdk_key: str) -> Call:
    about = (("sdk_key", sdk_key),)
    return Call(
        "experiments",
        f"/datafiles/{sdk_key}",
        "BuiltDatafile",
        "datafile of this SDK key",
        cached_as="datafile",
        about=about,
    )


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


# Filters of lists by the property of the items that shows them.
_SHOWN_FILTERS = {"project_id": "project_id", "campaign_id": "layer_id"}


def _definition(upstream: str, path: str, number: int, expects: str, noun: str) -> Call:
    about = (("id", number),)
    return Call(upstream, f"{path}{number}", expects, f"{noun} {number}", cached_as="definition", about=about)


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
