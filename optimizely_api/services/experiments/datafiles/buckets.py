"""Who gets which of the 10,000 buckets of an experiment or a group: pure functions.

SDKs hash a user to a bucket, and a datafile names the owner of each: a variation of the experiment, or an experiment of
the group. A change of traffic or weights moves as few buckets as the new shares demand. Each bucket has a home, the
first owner that it ever had, and goes back there as soon as the shares allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

ALL = 10_000
NOBODY = 0  # no entity has this id

Shares = Mapping[int, int]  # the number of buckets of each owner, in the order of the list


@dataclass(frozen=True)
class Buckets:
    """The owner and the home of each bucket, by its number, and its owner before the last change; NOBODY for none."""

    owners: tuple[int, ...] = (NOBODY,) * ALL
    homes: tuple[int, ...] = (NOBODY,) * ALL
    previous: tuple[int, ...] = (NOBODY,) * ALL


def shares(weights: Mapping[int, int], total: int) -> dict[int, int]:
    """Divide `total` buckets by weight, each share less than one bucket from the exact one.

    More buckets in all never mean fewer for anybody, which largest remainders do not promise: the quota method of
    Balinski and Young hands out one bucket after the other.
    """
    sum_of_weights = sum(weights.values())
    result = dict.fromkeys(weights, 0)
    if not sum_of_weights:
        return result
    if all(weight * total % sum_of_weights == 0 for weight in weights.values()):
        return {owner: weight * total // sum_of_weights for owner, weight in weights.items()}
    for size in range(1, total + 1):
        # Whoever has no more than the exact share yet; among those, the one with the most weight for each bucket.
        entitled = [one for one in result if result[one] * sum_of_weights < weights[one] * size]
        result[max(entitled, key=lambda one: weights[one] / (result[one] + 1))] += 1
    return result


def moved(buckets: Buckets, wanted: Shares) -> Buckets:
    """The buckets with `wanted` shares; the rest belongs to nobody. Undoing the last change restores every owner."""
    counts = Counter(buckets.owners)
    if _fits(counts, wanted):
        return buckets
    # Homes alone do not tell who lent whom a bucket when three or more owners exchange them.
    if _fits(Counter(buckets.previous), wanted):
        return Buckets(buckets.previous, buckets.homes, previous=buckets.owners)
    owners, homes = list(buckets.owners), list(buckets.homes)
    for number in _given_up(buckets, wanted, counts):
        owners[number] = NOBODY
    missing = {owner: share - min(counts[owner], share) for owner, share in wanted.items()}
    free = [number for number, owner in enumerate(owners) if owner == NOBODY]
    for number in free:
        if missing.get(homes[number]):
            missing[homes[number]] -= 1
            owners[number] = homes[number]
    takers = (owner for owner, count in missing.items() for _ in range(count))
    never_used_first = sorted(
        (number for number in free if owners[number] == NOBODY), key=lambda number: homes[number] != NOBODY
    )
    for number, owner in zip(never_used_first, takers, strict=False):
        owners[number] = owner
        homes[number] = homes[number] or owner
    return Buckets(tuple(owners), tuple(homes), previous=buckets.owners)


def _fits(counts: Mapping[int, int], wanted: Shares) -> bool:
    present = {owner: count for owner, count in counts.items() if owner != NOBODY}
    return present == {owner: share for owner, share in wanted.items() if share}


def _given_up(buckets: Buckets, wanted: Shares, counts: Mapping[int, int]) -> Iterator[int]:
    """The buckets of owners that have too many: first those whose home is another, then the highest."""
    surplus = {owner: count - wanted.get(owner, 0) for owner, count in counts.items() if owner != NOBODY}
    for at_home in (False, True):
        for number in reversed(range(ALL)):
            owner = buckets.owners[number]
            if surplus.get(owner, 0) > 0 and (buckets.homes[number] == owner) is at_home:
                surplus[owner] -= 1
                yield number


def dump(buckets: Buckets) -> list[list[int]]:
    """The buckets as JSON: `[owner, home, previous owner, end]` of each range."""
    result, end = [], 0
    for values, run in groupby(zip(buckets.owners, buckets.homes, buckets.previous, strict=True)):
        end += len(list(run))
        result.append([*values, end])
    return result


def load(stored: Iterable[Sequence[int]]) -> Buckets:
    """The buckets from their JSON."""
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for *values, end in stored:
        size = end - len(columns[0])
        for column, value in zip(columns, values, strict=True):
            column += [value] * size
    return Buckets(*map(tuple, columns))


def ranges(stored: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """(owner, end) of each range of stored buckets, ascending; without the last one if nobody owns it."""
    result = []
    for owner, run in groupby(stored, key=itemgetter(0)):
        *_, last = run
        result.append((owner, last[-1]))
    return result[:-1] if result and result[-1][0] == NOBODY else result
