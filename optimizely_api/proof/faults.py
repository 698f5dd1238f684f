"""The kinds of faults, and the plan of a run. No IO: the same seed and options give the same plan."""

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

SERVICES: Final = ("projects", "experiments", "results")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; `seconds` is the shortest and longest time that one lasts."""

    name: str
    meaning: str
    seconds: tuple[float, float] = (0.0, 0.0)
    of_gateway: bool = False
    of_responses: bool = False  # made by the proxy, for a share of a service's responses
    is_control: bool = False  # no gateway can see it: a proof that finds no bad answer with it is blind


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("kill-worker", "SIGKILL of a worker of a gateway", of_gateway=True),
        Kind("freeze-worker", "SIGSTOP of a worker of a gateway, later SIGCONT", (0.2, 3.0), of_gateway=True),
        Kind("reload", "HUP of a gateway", of_gateway=True),
        Kind("kill-service", "SIGKILL of all processes of a service, then a new start", (0.5, 3.0)),
        Kind("freeze-service", "SIGSTOP of all processes of a service, later SIGCONT", (0.5, 6.0)),
        Kind("restart-service", "TERM of a service, then a new start on its database", (0.1, 1.0)),
        Kind("full-disk", "no file of a service can grow (RLIMIT_FSIZE)", (1.0, 5.0)),
        Kind("slow", "responses are late by 0.05 to 12 seconds", (1.0, 6.0), of_responses=True),
        Kind("reset", "the connection is reset in the middle of responses", (0.5, 5.0), of_responses=True),
        Kind("truncated", "responses end in the middle of their body", (0.5, 5.0), of_responses=True),
        Kind("bad-json", "bodies are not JSON", (0.5, 5.0), of_responses=True),
        Kind("off-contract", "members of bodies have other types", (0.5, 5.0), of_responses=True),
        Kind("swapped", "responses are those of another call", (0.5, 5.0), of_responses=True),
        Kind("error", "responses are 500, without a reason", (0.5, 5.0), of_responses=True),
        Kind(
            "forged",
            "names in bodies are changed, in contract: for seeing that the proof finds it",
            (0.5, 5.0),
            of_responses=True,
            is_control=True,
        ),
    )
}
USUAL: Final = tuple(name for name, kind in KINDS.items() if not kind.is_control)
SHARES: Final = (0.1, 0.3, 1.0)  # of a service's responses
SLOWEST_SECONDS: Final = 12.0
FASTEST_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to come; times are seconds since the load began.

    `target` is a service's name or a gateway's number, `share` the share of the responses that are falsified, `delay`
    the delay of slow ones in seconds.
    """

    kind: str
    at: float
    seconds: float
    target: str
    share: float = 1.0
    delay: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    kinds: Collection[str], seconds: float, gap_seconds: float, gateways: int, seed: int
) -> Sequence[Fault]:
    """The faults of a load of this duration, by their beginnings.

    They begin at random times, and the next begins whether or not earlier ones have ended. The kinds come in rounds:
    each of them once, in random order.
    """
    chance = random.Random(seed)  # noqa: S311
    faults: list[Fault] = []
    waiting: list[str] = []
    at = chance.expovariate(1 / gap_seconds)
    while at < seconds:
        if not waiting:
            waiting = chance.sample(sorted(kinds), len(kinds))
        faults.append(_fault(KINDS[waiting.pop()], at, gateways, chance))
        at += chance.expovariate(1 / gap_seconds)
    return faults


def regular_plan(every: Mapping[str, float], seconds: float, gateways: int, seed: int) -> Sequence[Fault]:
    """The faults of a load in which one of each of these kinds begins every so many seconds."""
    chance = random.Random(seed)  # noqa: S311
    times = sorted(
        (number * interval, name)
        for name, interval in every.items()
        for number in range(1, math.ceil(seconds / interval))
    )
    return [_fault(KINDS[name], at, gateways, chance) for at, name in times]


def _fault(kind: Kind, at: float, gateways: int, chance: random.Random) -> Fault:
    return Fault(
        kind.name,
        at=round(at, 3),
        seconds=round(chance.uniform(*kind.seconds), 3),
        target=str(chance.randrange(gateways)) if kind.of_gateway else chance.choice(SERVICES),
        share=chance.choice(SHARES) if kind.of_responses else 1.0,
        delay=round(FASTEST_SECONDS * (SLOWEST_SECONDS / FASTEST_SECONDS) ** chance.random(), 3)
        if kind.name == "slow"
        else 0.0,
    )
