"""The blocking application that preceded the gateway; it exists only for the comparison.

It serves the two composites with the same contract, composition, identity check and errors as the gateway, on blocking
gunicorn workers. `legacy.fan_out` selects how the calls of a request are sent together:

- `multiprocessing`: a `multiprocessing.Pool()` and a `multiprocessing.Manager().Queue()` per request, as in 2017;
- `multiprocessing-kept`: a `multiprocessing.Pool()` per worker, made once;
- `threads`: a `concurrent.futures.ThreadPoolExecutor` per worker, a fairer blocking design;
- `gevent`: the same under gunicorn's gevent worker, which makes greenlets of threads.
"""

from collections.abc import Sequence
from typing import Any

from pyramid.config import Configurator
from pyramid.router import Router

from optimizely_api.contract import CONTRACT, load, subset
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.composition.parts import Known, Makers, Parts
from optimizely_api.gateway.contract.requests import ContractRequest
from optimizely_api.gateway.settings import InvalidSetting, read
from optimizely_api.gateway.upstreams import CLIENT, limits, shape_checks, upstreams
from optimizely_api.legacy.client import BlockingClient
from optimizely_api.legacy.kept_pool import KeptPoolFanOut
from optimizely_api.legacy.pool import PoolFanOut
from optimizely_api.legacy.threads import GreenletFanOut, ThreadFanOut
from optimizely_api.runtime.environ import decoded_path
from optimizely_api.upstream.calls import Call

FanOut = PoolFanOut | KeptPoolFanOut | ThreadFanOut
FAN_OUTS: dict[str, type[FanOut]] = {
    "multiprocessing": PoolFanOut,
    "multiprocessing-kept": KeptPoolFanOut,
    "threads": ThreadFanOut,
    "gevent": GreenletFanOut,
}
FAN_OUT = "optimizely_api.legacy.fan_out"  # the registry's key for the fan-out
OPERATIONS = frozenset({"get_experiment_results", "get_campaign_results"})


class BlockingRequest(ContractRequest):
    """A request whose calls block its worker until their responses are complete."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        # gunicorn's other workers decode the complete path; we keep an encoded slash, as `runtime/environ.py` does.
        raw = environ.get("RAW_URI", "").partition("?")[0]
        if raw.startswith("/") and "%2f" in raw.lower():
            environ["PATH_INFO"] = decoded_path(raw.encode("latin-1")).removeprefix(environ["SCRIPT_NAME"])

    def fetch(self, call: Call) -> Any:
        return self.registry[CLIENT].fetch(call, self.call_context)

    def fetch_all(self, calls: Sequence[Call], *, at_most: int | None = None) -> list[Any]:
        values: list[Any] = self.registry[FAN_OUT].fetch_all(calls, self.call_context, at_most=at_most)
        return values

    def fetch_parts(self, makers: Makers, known: Known, *, at_most: int | None = None) -> Parts:
        """As `GatewayRequest.fetch_parts`."""
        parts = Parts(self.composition, known)
        while calls := parts.next_calls(makers):
            parts.take(self.fetch_all(calls, at_most=at_most))
        if parts.unreachable:
            self.do_without(parts.unreachable)
        return parts


def main(global_config: dict[str, str], **settings: Any) -> Router:
    """Make the blocking application, for gunicorn's `sync`, `gthread` and `gevent` workers."""
    typed = read({**global_config, **settings})
    config = Configurator(settings=settings)
    config.registry["settings"] = typed
    config.registry[BLOCKING] = True
    config.registry[CONTRACT] = subset(load(), OPERATIONS)
    config.include("optimizely_api.gateway")
    client = BlockingClient(upstreams(typed), limits(typed), shape_checks(load()))
    config.registry[CLIENT] = client
    config.registry[FAN_OUT] = _fan_out(settings.get("legacy.fan_out", "multiprocessing"))(client)
    config.set_request_factory(BlockingRequest)
    config.scan(".views")
    return config.make_wsgi_app()


def _fan_out(name: str) -> type[FanOut]:
    if name not in FAN_OUTS:
        raise InvalidSetting(f"legacy.fan_out = {name}: must be one of {', '.join(FAN_OUTS)}")
    return FAN_OUTS[name]
