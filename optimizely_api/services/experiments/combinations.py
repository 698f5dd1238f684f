"""The variations of a multivariate experiment: all combinations of its sections' active variations."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import floor, prod
from typing import Any

from optimizely_api.services.experiments.definitions import ALL_TRAFFIC

Json = dict[str, Any]


def count(sections: Sequence[Sequence[Json]]) -> int:
    """How many combinations the sections' variations have."""
    return prod(len(_active(section)) for section in sections) if sections else 0


def combine(sections: Sequence[Sequence[Json]], known: Sequence[Json]) -> list[Json]:
    """The combinations in order; `parts` are the ids of their variations, by which the known ones keep their id."""
    if not count(sections):
        return []
    made = list(product(*(_active(section) for section in sections)))
    totals = [sum(variation["weight"] for variation in _active(section)) for section in sections]
    weights = _rounded([_share(parts, totals) for parts in made])
    ids = {tuple(old["parts"]): old["variation_id"] for old in known if "parts" in old}
    return [_combination(parts, weight, ids) for parts, weight in zip(made, weights, strict=True)]


def _active(section: Sequence[Json]) -> list[Json]:
    return [variation for variation in section if variation["status"] == "active"]


def _share(parts: Sequence[Json], totals: Sequence[int]) -> Fraction:
    """Full factorial: the parts' shares multiplied. Shares of variations that are not active go to the others."""
    shares = [
        Fraction(part["weight"], total) if total else Fraction(0)
        for part, total in zip(parts, totals, strict=True)
    ]
    return prod(shares, start=Fraction(ALL_TRAFFIC))


def _rounded(shares: Sequence[Fraction]) -> list[int]:
    """Integers that add up to the same, rounded by largest remainder, the earlier first."""
    weights = [floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda number: weights[number] - shares[number])
    for number in by_remainder[: int(sum(shares)) - sum(weights)]:
        weights[number] += 1
    return weights


def _combination(parts: Sequence[Json], weight: int, ids: dict[tuple[int, ...], int]) -> Json:
    part_ids = tuple(part["variation_id"] for part in parts)
    return {
        "parts": list(part_ids),
        "name": " / ".join(part["name"] for part in parts),
        "weight": weight,
        "status": "active",
        "archived": False,
        "actions": _merged([action for part in parts for action in part["actions"]]),
        **({"variation_id": ids[part_ids]} if part_ids in ids else {}),
    }


def _merged(actions: Sequence[Json]) -> list[Json]:
    """One action for each page, with all changes there in the order of the sections."""
    by_page: dict[int, Json] = {}
    for action in actions:
        former = by_page.get(action["page_id"], {"changes": []})
        changes = [*former["changes"], *action.get("changes", [])]
        by_page[action["page_id"]] = {**former, **action, "changes": changes}
    return list(by_page.values())
