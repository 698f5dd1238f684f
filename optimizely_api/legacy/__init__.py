"""The blocking application that the gateway used to be: kept for comparison, and for nothing else.

It serves the two composites with the same contract, composition, identity and errors as the gateway, on blocking
gunicorn workers. `legacy.fan_out` chooses how a request's calls are sent together:

- `multiprocessing`: a `multiprocessing.Pool()` and a `multiprocessing.Manager().Queue()` per request, as it was;
- `threads`: a `concurrent.futures.ThreadPoolExecutor` per worker, the fair middle.
"""

from typing import Any

from pyramid.config import Configurator
from pyramid.router import Router

from ..contract import CONTRACT, load, subset
from ..settings import InvalidSetting, read
from ..upstream_client import limits, shape_checks, upstreams
from ..view_kind import BLOCKING
from .client import BlockingClient
from .pool import PoolFanOut
from .threads import ThreadFanOut

FAN_OUTS: dict[str, type[PoolFanOut] | type[ThreadFanOut]] = {
    "multiprocessing": PoolFanOut,
    "threads": ThreadFanOut,
}
OPERATIONS = frozenset({"get_experiment_results", "get_campaign_results"})


def main(global_config: dict[str, str], **settings: Any) -> Router:
    """Make the blocking application, for gunicorn's `sync` and `gthread` workers."""
    typed = read({**global_config, **settings})
    config = Configurator(settings=settings)
    config.registry["settings"] = typed
    config.registry[BLOCKING] = True
    config.registry[CONTRACT] = subset(load(), OPERATIONS)
    for room in ("access_log", "answers", "errors", "body_limit", "security", "contract"):
        config.include(f"optimizely_api.{room}")
    client = BlockingClient(upstreams(typed), limits(typed), shape_checks(load()))
    fan_out = _fan_out(settings.get("legacy.fan_out", "multiprocessing"))(client)
    config.add_request_method(lambda request, call: client.fetch(call, request.scope), "fetch")
    config.add_request_method(
        lambda request, calls, at_most=None: fan_out.fetch_all(calls, request.scope, at_most=at_most),
        "fetch_all",
    )
    config.scan(".views")
    return config.make_wsgi_app()


def _fan_out(name: str) -> type[PoolFanOut] | type[ThreadFanOut]:
    if name not in FAN_OUTS:
        raise InvalidSetting(f"legacy.fan_out = {name}: must be one of {', '.join(FAN_OUTS)}")
    return FAN_OUTS[name]
