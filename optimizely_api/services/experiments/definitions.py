"""The parts of an experiment: defaults, stable ids, rules between fields, and the settings that its start freezes.

Pure functions on validated input; only the store uses the database.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from optimizely_api.services.experiments.schema import STATS_CONFIG_DEFAULTS
from optimizely_api.services.schema import field_error

ALL_TRAFFIC = 10_000  # basis points
METRIC_DEFAULTS = {"aggregator": "unique", "scope": "visitor", "winning_direction": "increasing"}
# Metrics that differ in one of these are different metrics; the other properties say how a metric is judged.
METRIC_IDENTITY = ("event_id", "aggregator", "field", "scope", "metrics")
EXPERIMENT_DEFAULTS: dict[str, Any] = {
    "audience_conditions": "everyone",
    "changes": [],
    "holdback": 0,
    "metrics": [],
    "traffic_allocation": ALL_TRAFFIC,
    "variations": [],
}


def new_variations(variations: list[dict[str, Any]], ids: Iterator[int]) -> list[dict[str, Any]]:
    """The variations of a new experiment: each gets a new id, whatever id the body had."""
    return [_variation({**variation, "variation_id": next(ids)}) for variation in variations]


def changed_variations(
    old: list[dict[str, Any]], given: list[dict[str, Any]], ids: Iterator[int], *, started: bool
) -> list[dict[str, Any]]:
    """The variations after a change: those with a known id (or else key) keep their id, others get a new one.

    400 for an id of another experiment, for an id used twice, and when a started experiment would lose a variation.
    """
    by_id = {variation["variation_id"]: variation for variation in old}
    by_key = {variation["key"]: variation for variation in old if "key" in variation}
    result: list[dict[str, Any]] = []
    for number, variation in enumerate(given):
        known = by_key.get(variation.get("key", ""))
        if "variation_id" in variation:
            known = by_id.get(variation["variation_id"])
            if known is None:
                raise field_error(f"/variations/{number}/variation_id", "is not of this experiment")
        variation_id = next(ids) if known is None else known["variation_id"]
        result.append(_variation({**(known or {}), **variation, "variation_id": variation_id}))
    kept = [variation["variation_id"] for variation in result]
    if len(set(kept)) != len(kept):
        raise field_error("/variations", "the same variation_id stands there twice")
    if started and not by_id.keys() <= set(kept):
        raise field_error("/variations", "a started experiment cannot lose one; archive it instead")
    return result


def _variation(given: dict[str, Any]) -> dict[str, Any]:
    variation = {"actions": [], "archived": False, "status": "active", **given}
    if variation["archived"]:
        variation["status"] = "archived"
    variation["archived"] = variation["status"] == "archived"
    variation["actions"] = [
        {**action, "changes": with_change_ids(action.get("changes", []))} for action in variation["actions"]
    ]
    return variation


def with_change_ids(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same changes, each with an id for others to depend on."""
    return [{"id": str(uuid.uuid4()), **change} for change in changes]


def check_variations(variations: list[dict[str, Any]]) -> None:
    """Refuse weights that do not add up to all the traffic, and keys used twice."""
    if not variations:
        return
    total = sum(variation["weight"] for variation in variations if not variation["archived"])
    if total != ALL_TRAFFIC:
        raise field_error("/variations", f"the weights add up to {total}, not {ALL_TRAFFIC}")
    keys = [variation["key"] for variation in variations if "key" in variation]
    if len(set(keys)) != len(keys):
        raise field_error("/variations", "the same key stands there twice")


def check_whitelist(document: Mapping[str, Any]) -> None:
    """Refuse a whitelist with a variation of another experiment."""
    known = {variation["variation_id"] for variation in document["variations"]}
    for number, entry in enumerate(document.get("whitelist", [])):
        if entry["variation_id"] not in known:
            raise field_error(f"/whitelist/{number}/variation_id", "is not of this experiment")


def complete_metrics(metrics: list[dict[str, Any]], event_ids: Iterable[int]) -> list[dict[str, Any]]:
    """The metrics with defaults; 400 for a sum without a field and for an event of another project."""
    known = set(event_ids)
    for number, metric in enumerate(metrics):
        if metric.get("aggregator") == "sum" and "field" not in metric:
            raise field_error(f"/metrics/{number}/field", "is required with the aggregator sum")
        for pointer, event_id in _event_ids(number, metric):
            if event_id not in known:
                raise field_error(pointer, "is no event of this project")
    return [{**METRIC_DEFAULTS, **metric} for metric in metrics]


def event_ids_of(metrics: Iterable[dict[str, Any]]) -> set[int]:
    """The ids of all events in the metrics."""
    return {event_id for metric in metrics for _, event_id in _event_ids(0, metric)}


def _event_ids(number: int, metric: dict[str, Any]) -> Iterator[tuple[str, int]]:
    if metric.get("event_id") is not None:
        yield f"/metrics/{number}/event_id", metric["event_id"]
    for part_number, part in enumerate(metric.get("metrics", [])):
        if part.get("event_id") is not None:
            yield f"/metrics/{number}/metrics/{part_number}/event_id", part["event_id"]


def metric_names(metrics: Iterable[dict[str, Any]], event_names: Mapping[int, str]) -> list[str]:
    """A name for each metric: that of its event, or "Overall ..." for a metric of all events."""
    return [_metric_name(metric, event_names) for metric in metrics]


def _metric_name(metric: dict[str, Any], event_names: Mapping[int, str]) -> str:
    event_id = metric.get("event_id")
    if event_id is not None:
        return event_names.get(event_id, f"Event {event_id}")
    return f"Overall {metric.get('field') or metric['aggregator']}"


def complete_stats_config(given: dict[str, Any] | None) -> dict[str, Any]:
    """Statistics settings with defaults."""
    return {**STATS_CONFIG_DEFAULTS, **(given or {})}


def results_settings(
    document: Mapping[str, Any],
    stats_config: dict[str, Any],
    baseline_variation_id: int | None,
    event_names: Mapping[int, str],
) -> dict[str, Any]:
    """The settings that results are computed with, as they are now; the first start stores this object."""
    variations = [
        {"variation_id": variation["variation_id"], "name": _variation_name(variation, number)}
        for number, variation in enumerate(document["variations"], 1)
    ]
    first = variations[0]["variation_id"] if variations else None
    baseline = baseline_variation_id or first
    return {
        "metrics": document["metrics"],
        "metric_names": metric_names(document["metrics"], event_names),
        "variations": variations,
        "stats_config": stats_config,
        **({} if baseline is None else {"baseline_variation_id": str(baseline)}),
    }


def as_frozen(present: dict[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the parts that the first start froze: level, kind of difference, baseline, metrics' meaning.

    The lists of variations and metrics are the present ones.
    """
    kept = {name: frozen[name] for name in ("stats_config", "baseline_variation_id") if name in frozen}
    return {**present, **kept, "metrics": metrics_as_frozen(present["metrics"], frozen["metrics"])}


def metrics_as_frozen(
    present: Sequence[dict[str, Any]], frozen: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The present metrics, with the frozen definition of each that was edited after the start (its direction, say)."""
    replaced = [metric for metric in frozen if metric not in present]
    return [
        metric if metric in frozen else next((old for old in replaced if _same(old, metric)), metric)
        for metric in present
    ]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in METRIC_IDENTITY)


def _variation_name(variation: Mapping[str, Any], number: int) -> str:
    return str(variation.get("name") or variation.get("key") or f"Variation {number}")
