"""The parts of an experiment: defaults, stable ids, rules between fields, and the settings that its start freezes.

Pure functions on validated input; only the store uses the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from optimizely_api.services.experiments import page_changes
from optimizely_api.services.experiments.schema import STATS_CONFIG_DEFAULTS
from optimizely_api.services.http.errors import conflict, field_errors
from optimizely_api.services.schema import field_error

ALL_TRAFFIC = 10_000  # basis points
NOTHING: Mapping[str, Any] = {}
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

LAYER_DEFAULTS: dict[str, Any] = {
    "changes": [],
    "description": "",
    "holdback": 500,
    "metrics": [],
    "page_ids": [],
}


def new_variations(
    variations: list[dict[str, Any]], ids: Iterator[int], *, keyed: bool
) -> list[dict[str, Any]]:
    """The variations of a new experiment: each gets a new id, whatever id the body had.

    `keyed` says that the experiment has a key, by which code runs it, so that its variations need keys too.
    """
    return _named([_variation({**variation, "variation_id": next(ids)}) for variation in variations], keyed)


def changed_variations(
    old: list[dict[str, Any]],
    given: list[dict[str, Any]],
    ids: Iterator[int],
    *,
    started: bool,
    keyed: bool,
) -> list[dict[str, Any]]:
    """The variations after a change: those with a known id (or else key) keep their id, others get a new one.

    Those that are left out are gone, or archived in a started experiment, whose visitors they had.
    400 for an id of another experiment and for an id used twice, 409 for bringing an archived one back
    once the experiment has started.
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
        changed = _changed(known or {}, {**variation, "variation_id": variation_id})
        if started and known is not None and known["archived"] and not changed["archived"]:
            raise conflict(f"variation {variation_id} is archived for good: the experiment has started")
        result.append(changed)
    kept = [variation["variation_id"] for variation in result]
    if len(set(kept)) != len(kept):
        raise field_error("/variations", "the same variation_id stands there twice")
    if started:
        left_out = [variation for variation_id, variation in by_id.items() if variation_id not in kept]
        result += [_variation({**variation, "archived": True, "weight": 0}) for variation in left_out]
    return _named(result, keyed)


def _changed(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A variation after a change; of `status` and `archived`, which say the same, the one that is given counts."""
    if "status" in given and "archived" not in given:
        known = {**known, "archived": False}
    elif given.get("archived") is False and "status" not in given and known.get("status") == "archived":
        known = {**known, "status": "active"}
    return _variation({**known, **given}, known)


def _variation(given: dict[str, Any], known: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    variation = {"actions": [], "archived": False, "status": "active", **given}
    if variation["archived"]:
        variation["status"] = "archived"
    variation["archived"] = variation["status"] == "archived"
    before = {action["page_id"]: action["changes"] for action in known.get("actions", ())}
    variation["actions"] = [
        {**one, "changes": page_changes.completed(one.get("changes", []), before.get(one["page_id"], ()))}
        for one in variation["actions"]
    ]
    return variation


def _named(variations: list[dict[str, Any]], keyed: bool) -> list[dict[str, Any]]:
    """The variations with a key for each, or, in an experiment without one, a key or a name for each."""
    taken = {variation.get("key") for variation in variations}
    result = []
    for number, variation in enumerate(variations, 1):
        if keyed and "key" not in variation:
            key = next(key for n in count(number) if (key := f"variation_{n}") not in taken)
            taken.add(key)
            variation = {**variation, "key": key}
        elif "key" not in variation and not variation.get("name"):
            variation = {**variation, "name": f"Variation #{number}"}
        result.append(variation)
    return result


def check_variations(variations: list[dict[str, Any]]) -> None:
    """Refuse weights that do not add up to all the traffic, and keys used twice."""
    if not variations:
        return
    for statuses in (("active", "paused"), ("active",)):
        total = sum(variation["weight"] for variation in variations if variation["status"] in statuses)
        if total == ALL_TRAFFIC:
            break
    else:
        total = sum(variation["weight"] for variation in variations if not variation["archived"])
        raise field_error("/variations", f"the weights add up to {total}, not {ALL_TRAFFIC}")
    keys = [variation["key"] for variation in variations if "key" in variation]
    if len(set(keys)) != len(keys):
        raise field_error("/variations", "the same key stands there twice")


def check_whitelist(document: Mapping[str, Any]) -> None:
    """Refuse a whitelist with a variation of another experiment, and with a visitor twice."""
    known = {variation["variation_id"] for variation in document["variations"]}
    seen = set[str]()
    for number, entry in enumerate(document.get("whitelist", [])):
        if entry["variation_id"] not in known:
            raise field_error(f"/whitelist/{number}/variation_id", "is not of this experiment")
        if entry["user_id"] in seen:
            raise field_error(f"/whitelist/{number}/user_id", "stands there twice")
        seen.add(entry["user_id"])


def with_pages_of_actions(variations: list[dict[str, Any]], page_ids: set[int]) -> list[dict[str, Any]]:
    """The variations, whose actions without a page are about the only one; 400 where there is not one."""
    problems = {
        f"/variations/{number}/actions/{place}/page_id": "is required unless the experiment has one page"
        for number, variation in enumerate(variations)
        for place, action in enumerate(variation.get("actions", ()))
        if "page_id" not in action and len(page_ids) != 1
    }
    if problems:
        raise field_errors(problems)
    return [
        {**one, "actions": [{"page_id": next(iter(page_ids)), **action} for action in one["actions"]]}
        if one.get("actions") and len(page_ids) == 1
        else one
        for one in variations
    ]


def complete_metrics(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics with defaults; 400 for a sum without a field, a field without a sum, and for no event to count."""
    problems = {
        pointer: problem
        for number, metric in enumerate(metrics)
        for pointer, problem in _flaws(number, metric)
    }
    if problems:
        raise field_errors(problems)
    return [{**METRIC_DEFAULTS, **metric} for metric in metrics]


def _flaws(number: int, metric: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    aggregator = metric.get("aggregator", METRIC_DEFAULTS["aggregator"])
    if aggregator == "sum" and "field" not in metric:
        yield f"/metrics/{number}/field", "is required with the aggregator sum"
    if aggregator != "sum" and "field" in metric:
        yield f"/metrics/{number}/field", f"is not possible with the aggregator {aggregator}"
    if aggregator not in ("sum", "ratio") and metric.get("event_id") is None:
        yield f"/metrics/{number}/event_id", f"is required with the aggregator {aggregator}"


def complete_traffic(given: dict[str, Any]) -> dict[str, Any]:
    """What is given, with `holdback` and `traffic_allocation` each the rest of the other; 400 when they disagree."""
    holdback, allocation = given.get("holdback"), given.get("traffic_allocation")
    if holdback is not None and allocation is not None and holdback + allocation != ALL_TRAFFIC:
        raise field_error("/traffic_allocation", f"must be {ALL_TRAFFIC - holdback}, the rest of holdback")
    if holdback is not None:
        return {**given, "traffic_allocation": ALL_TRAFFIC - holdback}
    return {**given, **({} if allocation is None else {"holdback": ALL_TRAFFIC - allocation})}


def one_targeting(document: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The document with pages or addresses, whichever was given last; 400 when both are given at once."""
    if given.get("url_targeting") and given.get("page_ids"):
        raise field_error("/url_targeting", "is not possible together with page_ids")
    if given.get("url_targeting"):
        return {name: value for name, value in document.items() if name != "page_ids"}
    if given.get("page_ids"):
        return {name: value for name, value in document.items() if name != "url_targeting"}
    return document


def without_former_pages(document: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what variations changed on pages that a switch to or from addresses has left behind."""
    if ("page_ids" in document) == ("page_ids" in before):
        return document
    former = pages_of(before) - pages_of(document)
    variations = [
        {**one, "actions": [action for action in one["actions"] if action["page_id"] not in former]}
        for one in document["variations"]
    ]
    return {**document, "variations": variations}


def pages_of(document: Mapping[str, Any]) -> set[int]:
    """The pages that an experiment or a campaign runs on; empty when it names none."""
    of_its_own = document.get("url_targeting", {}).get("page_id")
    return {*document.get("page_ids", ()), *(() if of_its_own is None else (of_its_own,))}


def new_priorities(groups: list[list[int]], member_ids: Sequence[int]) -> list[list[int]]:
    """The order in which experiences are tried, with those that the groups leave out as the last group.

    400 for an experiment that is not one of the members, and for one that stands there twice.
    """
    seen: set[int] = set()
    for number, group in enumerate(groups):
        for experiment_id in group:
            if experiment_id not in member_ids:
                raise field_error(
                    f"/experiment_priorities/{number}", "names an experiment of another campaign"
                )
            if experiment_id in seen:
                raise field_error(f"/experiment_priorities/{number}", "names an experiment a second time")
            seen.add(experiment_id)
    left_out = [member_id for member_id in member_ids if member_id not in seen]
    return [*groups, left_out] if left_out else groups


def shown_priorities(groups: Iterable[list[int]], member_ids: Sequence[int]) -> list[list[int]]:
    """The groups without those that are no members any more, and each member that came later at the end."""
    kept = [[one for one in group if one in member_ids] for group in groups]
    known = {one for group in kept for one in group}
    return [*filter(None, kept), *([one] for one in member_ids if one not in known)]


def check_pages_of_actions(document: Mapping[str, Any]) -> None:
    """400 for what a variation changes on pages that its experiment does not run on."""
    page_ids = pages_of(document)
    if not page_ids:
        return
    problems = {
        f"/variations/{number}/actions/{place}/page_id": "is no page of this experiment"
        for number, variation in enumerate(document["variations"])
        for place, action in enumerate(variation["actions"])
        if action["page_id"] not in page_ids
    }
    if problems:
        raise field_errors(problems)


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
    """A name for each metric: its title, that of its event, or "Overall ..." for a metric of all events."""
    return [_metric_name(metric, event_names) for metric in metrics]


def _metric_name(metric: dict[str, Any], event_names: Mapping[int, str]) -> str:
    if title := metric.get("display_title"):
        return str(title)
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
