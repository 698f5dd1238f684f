"""One worker of the gateway, its services and its requests, from the first second to the last."""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

from optimizely_api.gateway.settings import Settings
from optimizely_api.gateway.upstreams import (
    CLIENT,
    caching_options,
    limits,
    policy_options,
    shape_checks,
    upstreams,
)
from optimizely_api.upstream.caching import caching_client
from optimizely_api.upstream.caching.cache import Clock
from optimizely_api.upstream.resilience.order import send
from tests.simulate.invariants import Invariants
from tests.simulate.network import Connections
from tests.simulate.outages import NAMES, Denial, Outage, denials, outages
from tests.simulate.requests import CONTRACT, VIEWS, SimulatedRequest
from tests.simulate.services import EXPERIMENT, EXPERIMENTS, Truth, services
from tests.simulate.virtual_loop import STARTED, VirtualLoop

URLS = {f"{name}_url": f"http://127.0.0.{place}:80" for place, name in enumerate(NAMES, 1)}
# How often each operation is asked for.
MIX = {"get_experiment_results": 88, "get_experiment": 6, "get_project": 5, "update_experiment": 1}
QUIET_SECONDS = 25.0  # longer than any request
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Plan:
    """One run: the same plan has the same result."""

    seed: int
    requests: int
    seconds: float

    def settings(self) -> Settings:
        """All policies are on; kept values lapse in the longer outages, and every other seed confirms its results."""
        return Settings(
            **URLS,
            throttle_seconds=10.0,
            fewest_calls=50,
            hedge_share=0.025,
            results_cache_seconds=2.0 * (self.seed % 2),
            stale_if_error_seconds=600.0,
            stale_if_error_results_seconds=240.0,
        )


@dataclass
class Outcome:
    """What has become of a run."""

    plan: Plan
    digest: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    first_good: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    outages: int = 0
    outage_seconds: float = 0.0
    calls: int = 0
    attempts: int = 0
    events: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests at one rate."""

    seconds: float
    weight: float


def phases(chance: random.Random, seconds: float) -> Iterator[Phase]:
    """Yield phases: mostly steady ones, bursts, and some without a request."""
    left = seconds
    while left > 0:
        lasts = min(left, chance.uniform(60, 600))
        yield Phase(lasts, 1.0)
        burst = min(left - lasts, chance.uniform(2, 15))
        yield Phase(burst, chance.choice((10.0, 40.0, 100.0)))
        quiet = min(left - lasts - burst, QUIET_SECONDS if chance.random() < 0.2 else 0.0)
        yield Phase(quiet, 0.0)
        left -= lasts + burst + quiet


def simulate(plan: Plan, progress: Callable[[str], None]) -> Outcome:
    """Run a plan; raises Broken."""
    logging.disable(logging.WARNING)  # of parts that are missing
    random.seed(plan.seed)  # aiohttp's, and the numbers of calls
    network = Connections()
    network.loop = loop = VirtualLoop(network)
    return loop.run(_Run(plan, loop, network, progress).run())


class _Run:
    def __init__(
        self, plan: Plan, loop: VirtualLoop, network: Connections, progress: Callable[[str], None]
    ) -> None:
        self._plan, self._loop, self._progress = plan, loop, progress
        self._truth = Truth(loop)
        self._services = services(loop, self._truth, self._chance("services"))
        network.services = {
            (f"127.0.0.{place}", 80): self._services[name] for place, name in enumerate(NAMES, 1)
        }
        self._settings = plan.settings()

    def _chance(self, of: str) -> random.Random:
        """A source for each thing, so that a change of one leaves the others as they were."""
        return random.Random(f"{self._plan.seed} {of}")

    async def run(self) -> Outcome:
        settings, loop = self._settings, self._loop
        clock = Clock(monotonic=loop.time, wall=loop.time)
        caching = caching_options(settings)
        caching = caching_client.CachingOptions(**{**vars(caching), "clock": clock})
        policies = policy_options(settings)
        opened = caching_client.open_caching_client(
            upstreams(settings), limits(settings), shape_checks(CONTRACT), caching, None, policies
        )
        async with opened as client:
            assert isinstance(client, caching_client.CachingClient)
            client.policies["projects"].timing.chance = self._chance("policies")
            fresh = {
                "definition": settings.definition_cache_seconds,
                "results": settings.results_cache_seconds,
            }
            self._invariants = Invariants(loop, client, self._services, self._truth, policies, fresh)
            self._registry = {"settings": settings, CLIENT: client}
            counted = partial(self._invariants.call, send)
            with (
                mock.patch("optimizely_api.upstream.caching.caching_client.send", counted),
                mock.patch("optimizely_api.upstream.client.send", counted),
            ):
                return await self._all()

    async def _all(self) -> Outcome:
        loop, plan, begin = self._loop, self._plan, self._loop.time()
        end = begin + plan.seconds
        planned = outages(self._chance("outages"), begin, end)
        for outage in planned:
            loop.call_at(outage.starts, self._begin, outage)
            loop.call_at(outage.ends, self._end, outage)
        for denial in denials(self._chance("denials"), begin, end, EXPERIMENTS):
            loop.call_at(denial.starts, self._deny, denial)
            loop.call_at(denial.ends, self._truth.denied.clear)
        loop.call_later(1.0, self._second)
        await self._offer()
        await asyncio.sleep(QUIET_SECONDS)
        self._invariants.idle()
        return self._outcome(planned)

    async def _offer(self) -> None:
        chance, plan = self._chance("requests"), self._plan
        planned = list(phases(chance, plan.seconds))
        total = sum(phase.seconds * phase.weight for phase in planned)
        operations = chance.choices([*MIX], [*MIX.values()], k=plan.requests)
        popular = [1 / (place + 1) for place in range(EXPERIMENTS)]
        places = chance.choices(range(EXPERIMENTS), popular, k=plan.requests)
        number, due = 0, 0.0
        begin = self._loop.time()
        for phase in planned:
            due += plan.requests * phase.seconds * phase.weight / total
            times = sorted(begin + chance.random() * phase.seconds for _ in range(round(due) - number))
            for at in times:
                await self._until(at)
                self._loop.create_task(self._ask(operations[number], places[number], number, chance))
                number += 1
            begin += phase.seconds
            await self._until(begin)
            if phase.seconds == QUIET_SECONDS:
                self._invariants.idle()

    async def _until(self, at: float) -> None:
        turn = self._loop.create_future()
        self._loop.call_at(at, turn.set_result, None)
        await turn

    async def _ask(self, operation: str, place: int, number: int, chance: random.Random) -> None:
        wish = chance.uniform(0.05, 3.0) if chance.random() < 0.1 else math.inf
        invariants = self._invariants
        request = SimulatedRequest(self._registry, operation, place, number, wish)
        invariants.begins(request)
        try:
            outcome: Any = await VIEWS[operation](request)
        except Exception as exc:
            outcome = exc
        invariants.ends(request, outcome)

    def _begin(self, outage: Outage) -> None:
        service, books = self._services[outage.service], self._invariants.books[outage.service]
        failed_all = service.fails_all
        service.begin(outage)
        self._invariants.note(outage)
        books.outage_begins()
        if service.fails_all and not failed_all:
            books.all_begins_to_fail()

    def _end(self, outage: Outage) -> None:
        service, books = self._services[outage.service], self._invariants.books[outage.service]
        failed_all = service.fails_all
        service.end(outage)
        if failed_all and not service.fails_all:
            books.all_has_failed()
        if service.is_well:
            books.returns()

    def _deny(self, denial: Denial) -> None:
        self._truth.denied[b"/experiments/%d" % (EXPERIMENT + denial.experiment)] = denial.status
        self._truth.denied[b"/results/%d" % (EXPERIMENT + denial.experiment)] = denial.status

    def _second(self) -> None:
        self._invariants.second()
        passed = round(self._loop.time() - STARTED)
        if passed % round(self._plan.seconds / 10) == 0:
            self._progress(f"seed {self._plan.seed}: {passed / 3600:.1f} hours")
        self._loop.call_later(1.0, self._second)

    def _outcome(self, planned: list[Outage]) -> Outcome:
        books = self._invariants.books.values()
        return Outcome(
            plan=self._plan,
            digest=self._invariants.digest,
            outcomes=self._invariants.outcomes,
            first_good=[seconds for one in books for seconds in one.first_good],
            recoveries=[seconds for one in books for seconds in one.recoveries],
            outages=len(planned),
            outage_seconds=sum(outage.ends - outage.starts for outage in planned),
            calls=sum(one.calls for one in books),
            attempts=sum(one.service.attempts for one in books),
            events=sum((one.events for one in books), Counter()),
        )
