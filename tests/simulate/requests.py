"""Requests to the gateway's own views, without the framework around them."""

import time
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from optimizely_api.contract import load
from optimizely_api.gateway.contract.requests import ContractRequest
from optimizely_api.gateway.identity import Identity
from optimizely_api.gateway.resource import visible_project
from optimizely_api.gateway.upstreams import GatewayRequest
from optimizely_api.gateway.views import experiments
from optimizely_api.upstream.calls import update_entity
from optimizely_api.upstream.client import CallContext
from tests.simulate.services import ids

CONTRACT = load()


class SimulatedRequest:
    """As much of a request as a view needs: its parameters, its context, and the gateway's own way to the services."""

    fetch = GatewayRequest.fetch
    fetch_all = GatewayRequest.fetch_all
    fetch_parts = GatewayRequest.fetch_parts
    do_without = ContractRequest.do_without
    claimed_operation = ""
    environ: Mapping[str, str] = {}

    def __init__(
        self,
        registry: Mapping[str, Any],
        operation: str,
        place: int,
        number: int,
        wish: float,
    ) -> None:
        experiment, _, project, account = ids(place)
        self.registry, self.operation, self.place = registry, operation, place
        self.least_version = 0  # of the experiment's last write that was acknowledged before
        self.composition = CONTRACT.operations[operation].composition
        self.swagger_data = {"experiment_id": experiment, "project_id": project}
        self.identity = Identity(account, roles=None)
        self.started = now = time.monotonic()
        longest = registry["settings"].request_deadline_seconds
        self.deadline = now + min(longest, wish)
        self.uuid = f"request-{number}"
        self.call_context = CallContext(
            self.uuid,
            self.deadline,
            now + wish,
            account_id=account,
            takes_stale=operation != "update_experiment",
        )
        self.response = SimpleNamespace(status_int=200, headers={})

    def __repr__(self) -> str:
        return f"{self.uuid} ({self.operation} of {self.swagger_data})"


async def update_experiment(request: Any) -> Any:
    """The write of the operation, without the checks of its body."""
    collection = experiments.EXPERIMENTS.collection
    experiment_id = request.swagger_data["experiment_id"]
    return await request.fetch(update_entity(collection, experiment_id, {"name": "another"}))


async def get_project(request: Any) -> Any:
    """The project alone, without what the experiments service adds to it."""
    return await visible_project(request, request.swagger_data["project_id"])


# The operations that are asked for, each with the services that it needs.
NEEDS = {
    "get_experiment_results": ("experiments", "results", "projects"),
    "get_experiment": ("experiments",),
    "get_project": ("projects",),
    "update_experiment": ("experiments",),
}
VIEWS: Mapping[str, Callable[[Any], Awaitable[Any]]] = {
    "get_experiment_results": experiments.get_experiment_results,
    "get_experiment": experiments.get_experiment,
    "get_project": get_project,
    "update_experiment": update_experiment,
}
