"""What goes wrong, and when: from a seed, for the whole run in advance."""

import random
from dataclasses import dataclass

NAMES = ("projects", "experiments", "results")

# Of a service: what it does to all or a share of its calls.
KINDS = {
    "gone": "takes no connections, and closes those that are open",
    "silent": "loses all that is sent to it, requests for connections too",
    "frozen": "answers nothing until the end, then all that is still wanted",
    "slow": "takes 10 to 1000 times as long",
    "tail": "takes a second longer in one of a hundred calls",
    "crowded": "works on one call at a time",
    "busy": "answers 503, with Retry-After or without",
    "error": "answers 500, 502 or 504",
    "reset": "closes the connection before the first byte",
    "cut": "closes the connection in the middle",
    "garbage": "answers with what is not HTTP, not JSON or not as agreed",
    "swapped": "answers with what another call asked for",
    "denying": "answers 401 or 403",
}
SHARED = ("busy", "error", "reset", "cut", "garbage", "swapped")
DENIALS = (403, 404, 410)


@dataclass(frozen=True, slots=True)
class Outage:
    """What a service does between two times of the loop, to a share of its calls."""

    service: str
    kind: str
    starts: float
    ends: float
    share: float = 1.0
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Denial:
    """An experiment is gone, and comes back."""

    experiment: int  # by its place
    status: int
    starts: float
    ends: float


def outages(chance: random.Random, begin: float, end: float) -> list[Outage]:
    """Return outages of each service on its own, and some of two or three together."""
    found = [outage for name in NAMES for outage in _of_service(name, chance, begin, end)]
    at = begin + chance.expovariate(1 / 5000)
    while at < end:
        lasts = _duration(chance)
        several = chance.sample(NAMES, chance.choice((2, 3)))
        found += [_outage(name, chance, at, lasts) for name in several]
        at += lasts + chance.expovariate(1 / 5000)
    return [outage for outage in found if outage.ends < end]


def _of_service(name: str, chance: random.Random, begin: float, end: float) -> list[Outage]:
    found = []
    at = begin + chance.expovariate(1 / 300)
    while at < end:
        times = chance.choice((1, 1, 1, 1, 2, 8))  # 8: it comes and goes
        for _ in range(times):
            outage = _outage(name, chance, at, _duration(chance) if times < 8 else chance.uniform(0.3, 4.0))
            found.append(outage)
            at = outage.ends + (0.0 if times == 2 else chance.uniform(0.3, 4.0))
        at += chance.expovariate(1 / 500)
    return found


def _duration(chance: random.Random) -> float:
    return min(900.0, chance.lognormvariate(3.5, 1.5))


def _outage(name: str, chance: random.Random, at: float, lasts: float) -> Outage:
    kind = chance.choice([*KINDS])
    share = chance.choice((1.0, 1.0, 0.9, 0.5, 0.1)) if kind in SHARED else 1.0
    return Outage(name, kind, at, at + lasts, share, 10 ** chance.uniform(1, 3))


def denials(chance: random.Random, begin: float, end: float, experiments: int) -> list[Denial]:
    """Return the times in which experiments are gone."""
    found = []
    at = begin + chance.expovariate(1 / 400)
    while at < end:
        lasts = chance.expovariate(1 / 100)
        found.append(Denial(chance.randrange(experiments), chance.choice(DENIALS), at, at + lasts))
        at += lasts + chance.expovariate(1 / 400)
    return found
