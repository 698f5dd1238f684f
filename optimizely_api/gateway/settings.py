"""Every setting of the gateway: name, type, default, unit and meaning.

A setting comes from the application's section of the ini file, or from the environment as
`OPTIMIZELY_API_<NAME IN CAPITALS>`, which wins. Text becomes a type here, once.
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from optimizely_api.services_key import InvalidServicesKey, keys_of
from optimizely_api.start_failures import CannotStart

ENVIRONMENT_PREFIX = "OPTIMIZELY_API_"
OTHER_VARIABLES = frozenset({"OPTIMIZELY_API_DATA_DIR"})  # of the services, not of the gateway
KEY_SETTINGS = ("services_key", "services_key_file")
TEXT_SETTINGS = (
    *KEY_SETTINGS,
    "plan_name",
    "recommendations_folder",
)  # the others that are text are addresses
PASTE_KEYS = frozenset({"here", "__file__", "__script__"})  # what paste adds to every ini file


class InvalidSetting(CannotStart, ValueError):
    """A setting that stops start-up; the message names its key and value."""


def _setting(default: object, meaning: str, *, at_least: float | None = None, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"meaning": meaning, "at_least": at_least})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The gateway's settings, typed and checked.

    Times are in seconds and sizes in bytes, as the names say.
    """

    projects_url: str = _setting("http://127.0.0.1:6551", "Address of the projects service.")
    experiments_url: str = _setting("http://127.0.0.1:6552", "Address of the experiments service.")
    results_url: str = _setting("http://127.0.0.1:6553", "Address of the results service.")
    services_key: str = _setting(
        "",
        "The key that the gateway sends to the services; SERVICES_KEY in the environment wins. Of several, with"
        " spaces between them, the first is sent. Without a key the gateway does not start.",
        shown=False,
    )
    services_key_file: str = _setting(
        "",
        "A file that holds the key, where services_key is empty; SERVICES_KEY_FILE in the environment wins.",
    )
    request_deadline_seconds: float = _setting(
        10.0, "A request is answered within this time, with an error if need be.", at_least=0.01
    )
    projects_timeout_seconds: float = _setting(
        3.0, "The longest wait for one answer of the projects service.", at_least=0.01
    )
    experiments_timeout_seconds: float = _setting(
        3.0, "The longest wait for one answer of the experiments service.", at_least=0.01
    )
    results_timeout_seconds: float = _setting(
        8.0, "The longest wait for one answer of the results service.", at_least=0.01
    )
    upstream_connect_timeout_seconds: float = _setting(
        1.0, "The longest wait for a connection to a service.", at_least=0.01
    )
    upstream_connections: int = _setting(
        10_000,
        "Connections that one worker keeps to one service; further calls wait for a free one.",
        at_least=1,
    )
    upstream_answer_bytes: int = _setting(
        16 * 1024 * 1024, "The largest body taken from a service; a larger one is a 502.", at_least=1024
    )
    upstream_echo_required: bool = _setting(
        True,
        "Whether an answer below 500 must echo the X-Request-Id of its call, as the services do, proxies between"
        " included; one that echoes another call's is a 502 always.",
    )
    retry_tokens: int = _setting(
        10,
        "Calls to one service that one worker sends once more although none succeeds, where the connection was refused"
        " or closed without an answer, or the service says in a 503 when to return. Ten good answers earn another one."
        " 0 repeats none.",
        at_least=0,
    )
    throttle_seconds: float = _setting(
        10.0,
        "The time over which a worker counts how its calls to a service ended. Where most connections were refused or"
        " broken, or brought a 503 or nothing within the service's time limit, most calls are answered with a 503 at"
        " once, and the service is tried twice a second until it works again. One that is slow and answers is never"
        " refused. 0 sends every call.",
        at_least=0,
    )
    fewest_calls: int = _setting(
        0,
        "Calls that a worker always lets be under way to one service, such as 50. There may be upstream_connections of"
        " them while the service keeps its pace, and down to this number when it slows down under them; then accounts"
        " take turns, for a second at most. 0 is no such limit.",
        at_least=0,
    )
    hedge_share: float = _setting(
        0.025,
        "The part of a worker's calls to one service that may be sent a second time when no response has come after the"
        " time that 95 of 100 take, and 50 ms; the first good response is used. Takes tokens as repetitions do."
        " 0 sends none.",
        at_least=0,
    )
    coalesce_calls: bool = _setting(
        True, "Whether identical calls to a service under way at the same moment in a worker are made once."
    )
    definition_cache_seconds: float = _setting(
        5.0,
        "How long an experiment, campaign, project or event is used without asking its service again, from the"
        " moment it was asked for; then it is confirmed by its ETag. A write through this gunicorn is seen at once,"
        " one from elsewhere within this time. 0 keeps nothing.",
        at_least=0,
    )
    definition_cache_bytes: int = _setting(
        64 * 1024 * 1024,
        "Memory that one worker takes for kept experiments, campaigns, projects and events; the least recently used"
        " go. 0 keeps nothing.",
        at_least=0,
    )
    datafile_cache_seconds: float = _setting(
        0.5,
        "How long a datafile is served without asking whether it is the present one. A write through this gunicorn is"
        " seen at once, one from elsewhere and a schedule within this time. 0 asks every time.",
        at_least=0,
    )
    results_cache_seconds: float = _setting(
        0.0,
        "How long results are used without asking whether there are newer ones, at most until the next five"
        " minutes of the clock begin; then they are confirmed by their ETag, which saves computing them. 0 asks"
        " every time, so that events count at once and counts never go back between two workers."
        " (Such calls are not made once for several callers.)",
        at_least=0,
    )
    results_cache_bytes: int = _setting(
        64 * 1024 * 1024, "Memory that one worker takes for results; 0 keeps none.", at_least=0
    )
    stale_if_error_seconds: float = _setting(
        86_400.0,
        "How long a kept experiment, campaign, project, event or datafile stands for the one that its service does"
        " not give: for reading only, never from before a write through this gunicorn, and never after a 401, 403,"
        " 404 or 410 that the same worker got. 0 is never.",
        at_least=0,
    )
    stale_if_error_results_seconds: float = _setting(
        3600.0, "The same for kept results, which say is_stale then. 0 is never.", at_least=0
    )
    stale_if_error_identity_seconds: float = _setting(
        3600.0,
        "How long an accepted token goes on reading while the projects service does not answer. A token that is"
        " revoked in this time still reads. 0 is never.",
        at_least=0,
    )
    results_wait_seconds: float = _setting(
        5.0,
        "How long a request waits for results that are being computed; then it is a 202 with Retry-After, and the"
        " computation goes on. A caller may say how long (Prefer: wait=N); either way at most 0.8 of"
        " results_timeout_seconds and of request_deadline_seconds.",
        at_least=0,
    )
    campaign_fan_out: int = _setting(
        10, "Experiments of one campaign whose results are asked for at the same time.", at_least=1
    )
    identity_cache_seconds: float = _setting(
        10.0, "How long an accepted token is trusted without asking again; 0 asks every time.", at_least=0
    )
    identity_cache_entries: int = _setting(10_000, "Tokens that one worker remembers.", at_least=1)
    unknown_token_seconds: float = _setting(
        1.0,
        "How long a refused token is refused without asking again; one that was created since works after this time."
        " 0 asks every time.",
        at_least=0,
    )
    identity_calls: int = _setting(
        8,
        "Calls about tokens that were not accepted lately, under way in one worker at the same time.",
        at_least=1,
    )
    identity_wait_seconds: float = _setting(
        0.5,
        "How long a token waits for one of those calls; then the response is a 503 with Retry-After.",
        at_least=0,
    )
    max_request_body_bytes: int = _setting(
        1024 * 1024, "The largest request body; a larger one is a 413.", at_least=0
    )
    max_event_batch_bytes: int = _setting(
        3_670_016,
        "The largest body of POST /v1/events, in place of max_request_body_bytes; as large as the results service's"
        " RESULTS_MAX_BATCH_BYTES.",
        at_least=0,
    )
    request_bodies_bytes: int = _setting(
        64 * 1024 * 1024,
        "Memory that the request bodies under way in one worker take together; others wait for it, unread, for five"
        " seconds, and are then a 503.",
        at_least=0,
    )
    max_request_line_bytes: int = _setting(
        16 * 1024,
        "The longest request line, with the address and its query; a longer one is a 414.",
        at_least=1,
    )
    max_header_section_bytes: int = _setting(
        64 * 1024, "The largest header section of a request; a larger one is a 431.", at_least=1
    )
    max_header_fields: int = _setting(100, "The most header fields of a request; more are a 431.", at_least=1)
    compress_from_bytes: int = _setting(
        1024,
        "Answers of this size and larger are compressed for callers that take it; 0 compresses none.",
        at_least=0,
    )
    header_timeout_seconds: float = _setting(
        10.0, "A connection that sends no complete request head within this time is closed.", at_least=0.05
    )
    body_timeout_seconds: float = _setting(
        30.0,
        "A request body that is not whole within this time, however it trickles in, is a 408.",
        at_least=0.05,
    )
    write_timeout_seconds: float = _setting(
        60.0, "A connection whose client takes nothing of its answer for this time is closed.", at_least=0.05
    )
    stall_warning_seconds: float = _setting(
        0.1, "The event loop held for longer is logged with the stack that holds it; 0 is off.", at_least=0
    )
    overload_wait_seconds: float = _setting(
        1.0,
        "When requests wait in a worker's line for longer than this without a break, it is overloaded and refuses some:"
        " 503 with Retry-After, the least important first (optimizely_api/gateway/admission.py). 0 is off: no line.",
        at_least=0,
    )
    account_in_flight_share: float = _setting(
        0.5,
        "The share of a worker's requests under way that one account may have, once they are half of"
        " worker_connections; more are a 429. 1 limits no account.",
        at_least=0,
    )
    plan_name: str = _setting(
        "Self-hosted", "What GET /plan calls the plan of every account. It decides about nothing."
    )
    impressions_allowance: int = _setting(
        0,
        "Impressions that an account may have in a calendar year, as GET /plan and the summary of the usage say;"
        " 0 is no limit. Nothing stops at it.",
        at_least=0,
    )
    recommendations_folder: str = _setting(
        "",
        "The folder with the CSV files that a recommender writes, such as"
        " <account id>/<catalog id>/catalog/2026-01-31.csv; beside catalog there are stats and"
        " recommenders/<recommender id>. Empty: the operations of recommendations answer 404.",
    )


def read(ini: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Settings:
    """Make `Settings` of an ini section and the environment.

    Keys with a dot belong to libraries (`pyramid.reload_templates`) and are left to them. Raises
    InvalidSetting for a value that does not fit, and for a key that is no setting.
    """
    environ = os.environ if environ is None else environ
    fields = {item.name: item for item in dataclasses.fields(Settings)}
    for key in ini:
        if key not in fields and "." not in key and key not in PASTE_KEYS:
            shown = (
                "..." if "key" in key.lower() else ini[key]
            )  # perhaps the services' key under a wrong name
            raise InvalidSetting(f"{key} = {shown}: there is no such setting{_similar(key, list(fields))}")
    texts = {key: value for key, value in ini.items() if key in fields}
    for key in environ:
        name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key.startswith(ENVIRONMENT_PREFIX) and name not in fields and key not in OTHER_VARIABLES:
            raise InvalidSetting(
                f"{key} in the environment: there is no such setting{_similar(name, list(fields))}"
            )
    for name in fields:
        if (value := environ.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
            texts[name] = value
    values: dict[str, Any] = {name: _typed(fields[name], text) for name, text in texts.items()}
    values["services_key"] = _services_key(ini, environ)
    return Settings(**values)


def _services_key(ini: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """The key by the first of the gateway's own variables, the services' variables and the file that names one."""
    places = (
        [environ.get(f"{prefix}{name.upper()}", "") for name in KEY_SETTINGS]
        for prefix in (ENVIRONMENT_PREFIX, "")
    )
    given = next((place for place in places if any(place)), [ini.get(name, "") for name in KEY_SETTINGS])
    try:
        return keys_of(*given)[0]
    except InvalidServicesKey as exc:
        raise InvalidSetting(str(exc)) from None


def _similar(key: str, names: list[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _typed(item: "dataclasses.Field[object]", text: object) -> str | int | float:
    if item.name in TEXT_SETTINGS:
        return str(text)
    if item.type is str:
        return _address(item.name, str(text))
    if item.type is bool:
        return _truth(item.name, str(text))
    kind = int if item.type is int else float
    try:
        value = kind(str(text))
    except ValueError:
        raise InvalidSetting(f"{item.name} = {text}: not {_article(kind)}") from None
    least = item.metadata["at_least"]
    if not least <= value < float("inf"):
        raise InvalidSetting(f"{item.name} = {text}: must be at least {least}")
    return value


def _truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InvalidSetting(f"{name} = {text}: neither true nor false")
    return text.lower() == "true"


def _article(kind: type) -> str:
    return "a whole number" if kind is int else "a number"


def _address(name: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidSetting(f"{name} = {text}: not an address such as http://127.0.0.1:6551")
    return text.rstrip("/")
