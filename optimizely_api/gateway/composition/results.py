"""From what the services answer to what the API answers: pure functions, shared by coroutine and blocking views.

A view fetches; everything that is decided, asked for or merged is decided here, where a test needs no request.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from optimizely_api.contract.formats import HOLDBACK
from optimizely_api.contract.times import format_time
from optimizely_api.gateway.composition.parts import Known, Makers
from optimizely_api.gateway.errors import BadRequest
from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Call, Page
from optimizely_api.upstream.errors import BadUpstreamResponse
from optimizely_api.upstream.responses import Computing

Entity = dict[str, Any]
Query = Mapping[str, Any]
Compute = Callable[[int, Entity], Call]

SEGMENT_PARAMETERS = ("attribute_id", "attribute_value", "browser", "device", "source", "segment_conditions")
METRIC_IDENTITY = (
    "event_id",
    "aggregator",
    "field",
    "scope",
    "winning_direction",
    "event_properties",
    "time_window",
)
LARGEST_PAGE = 100
BASELINE_KEY = "baseline"  # of visitors who were held back, among the variants of an experience or a campaign
SAMPLE_RATIO = (
    "sample_ratio_p_value"  # the results service has it where the sample ratio does not fit the weights
)


def experiment_results_makers(
    query: Query, wait_seconds: float, compute: Compute = calls.compute_results
) -> Makers:
    """The parts of `get_experiment_results` that follow from the experiment.

    `compute` makes the call for the results, or for their time series. An experiment whose campaign or project is
    unknown is a fault of the services, not a 404 of the caller's.
    """

    def campaign(known: Known) -> Call:
        return _agreed(calls.get_layer(known["experiment"]["layer_id"]))

    def project(known: Known) -> Call:
        return _agreed(calls.get_project(known["experiment"]["project_id"]))

    def results(known: Known) -> Call:
        experiment = known["experiment"]
        call = results_call(experiment, query, _named_metrics(experiment["results_settings"]), compute)
        call.wait_seconds = wait_seconds
        return call

    return {"campaign": campaign, "project": project, "results": results}


def results_call(
    experiment: Entity, query: Query, metrics: Sequence[Entity], compute: Compute = calls.compute_results
) -> Call:
    """Ask for an experiment's results by its settings for them, counted while it ran.

    Raises BadRequest for a query that makes no sense for this experiment.
    """
    frozen = experiment["results_settings"]
    body: Entity = {
        "project_id": experiment["project_id"],
        "metrics": list(metrics),
        "variations": [_variation(variation) for variation in frozen["variations"]],
        "stats_config": frozen["stats_config"],
    }
    if _has_holdback(experiment):
        body["holdback"] = True
    if baseline := _baseline(experiment, query):
        body["baseline_variation_id"] = baseline
    if experiment.get("earliest"):
        body["earliest"] = experiment["earliest"]
    if experiment.get("runs") is not None:
        body["epochs"] = experiment["runs"]
    for name in ("start_time", "end_time"):
        if query.get(name) is not None:
            body[name] = _iso(query[name])
    if segment := _segment(query):
        body["segment"] = segment
    return compute(experiment["id"], body)


def experiment_results(
    experiment: Entity, campaign: Entity | None, project: Entity | None, results: Any
) -> Any:
    """Compose the contract's ExperimentResults, or ExperimentTimeseries of results over time.

    None and Computing of the results service stay what they are.

    `confidence_threshold` is the project's setting of today; significance was judged by the level frozen at the
    experiment's start, which is `stats_config.confidence_level`.

    Raises BadUpstreamResponse when the services do not agree on whose experiment it is.
    """
    _agree(experiment, campaign, project)
    if results is None or isinstance(results, Computing):
        return results
    return {**_without(results, SAMPLE_RATIO), "experiment_id": experiment["id"], **_threshold(project)}


def experiment_report(results: Entity) -> Entity:
    """The contract's ExperimentResultsReport: the outcome by the first metric's conclusion."""
    conclusion = results["metrics"][0].get("conclusion", {}) if results["metrics"] else {}
    outcome = "win" if "winner" in conclusion else "loss" if "loser" in conclusion else "inconclusive"
    kept = {name: results[name] for name in ("experiment_id", "start_time", "end_time")}
    return {**kept, "inferred_outcome": outcome}


def results_headers(results: Any) -> dict[str, str]:
    """When to ask again, while the results are computed; the p-value of a sample ratio mismatch, if there is one."""
    if isinstance(results, Computing):
        return {"Retry-After": str(results.retry_after_seconds)}
    if not isinstance(results, dict) or SAMPLE_RATIO not in results:
        return {}
    return {"X-Sample-Ratio-Mismatch": f"{results[SAMPLE_RATIO]:.3g}"}


def campaign_results_makers(query: Query, wait_seconds: float, at_most: int) -> Makers:
    """The parts of `get_campaign_results` that follow from the campaign: `at_most` results are asked for at a time.

    Those are the results of every experiment, by the campaign's metrics or, without any, its own.
    """

    def project(known: Known) -> Call:
        return _agreed(calls.get_project(known["campaign"]["project_id"]))

    def experiments(known: Known) -> list[Call]:
        layer = known["campaign"]
        pages = range(1, max(1, -(-len(layer["experiment_ids"]) // LARGEST_PAGE)) + 1)
        of_campaign = {"campaign_id": layer["id"], "include_classic": True}
        return [
            calls.list_experiments(layer["account_id"], Page(page, LARGEST_PAGE), of_campaign)
            for page in pages
        ]

    def results(known: Known) -> list[Call]:
        shared = _named_metrics(known["campaign"])
        asked = [
            results_call(experiment, query, shared or _named_metrics(experiment["results_settings"]))
            for experiment in experiments_of(known["experiments"])
        ]
        rounds = max(1, -(-len(asked) // at_most))  # which wait for computations so long together
        for call in asked:
            call.wait_seconds = wait_seconds / rounds
        return asked

    return {"project": project, "experiments": experiments, "results": results}


def experiments_of(pages: Iterable[Entity]) -> list[Entity]:
    return [experiment for page in pages for experiment in page["items"]]


def campaign_results(
    campaign: Entity, project: Entity | None, experiments: Sequence[Entity], results: Sequence[Any]
) -> Any:
    """Merge the results of a campaign's experiments, which come in pages, into the contract's CampaignResults.

    A metric's `results` holds every variation of every experiment, by variation id. None when no experiment has
    data, Computing when one is being computed. Raises BadUpstreamResponse when the services disagree.
    """
    listed = experiments_of(experiments)
    for experiment in listed:
        _agree(experiment, campaign, project)
    if computing := [result for result in results if isinstance(result, Computing)]:
        return max(computing, key=lambda result: result.retry_after_seconds)
    present = [
        (experiment["id"], result)
        for experiment, result in zip(listed, results, strict=True)
        if result is not None
    ]
    if not present:
        return None
    return {
        "campaign_id": campaign["id"],
        **_threshold(project),
        "start_time": min(result["start_time"] for _, result in present),
        "end_time": max(result["end_time"] for _, result in present),
        "is_stale": any(result["is_stale"] for _, result in present),
        "metrics": _merge_metrics(present),
    }


def results_response(results: Any) -> tuple[int, Any]:
    """Return status and body: 200 with results, 202 without a body while computed, 204 while there is no data."""
    if results is None:
        return 204, None
    if isinstance(results, Computing):
        return 202, None
    return 200, results


def _agreed(call: Call) -> Call:
    """The call about an entity that another service says is there: a 404 breaks the agreement."""
    call.entity = ""  # just made, and nobody else's
    return call


def _merge_metrics(present: Iterable[tuple[int, Entity]]) -> list[Entity]:
    merged: dict[bytes, Entity] = {}
    held_back: dict[bytes, list[Entity]] = {}
    for experiment_id, result in present:
        for metric in result["metrics"]:
            key = orjson.dumps([metric.get(name) for name in METRIC_IDENTITY], option=orjson.OPT_SORT_KEYS)
            shared = merged.setdefault(key, {**_without(metric, "conclusion"), "results": {}})
            for name, variant in metric["results"].items():
                if name == BASELINE_KEY:
                    held_back.setdefault(key, []).append(variant)
                else:
                    shared["results"][name] = {**variant, "experiment_id": experiment_id}
    for key, variants in held_back.items():
        results = merged[key]["results"]
        together = {"level": "campaign", "is_baseline": False}
        is_share = merged[key]["aggregator"] == "unique"
        results["campaign"] = {**pooled([*results.values()], is_share), **together, "name": "Campaign"}
        of_baseline = {**together, "is_baseline": True, "name": "Holdback"}
        results[BASELINE_KEY] = {**pooled(variants, is_share), **of_baseline}
    return list(merged.values())


def pooled(variants: Sequence[Entity], is_share: bool) -> Entity:
    """The figures of all variants together, of different visitors: value, samples, rate and variance.

    The variance is that of all samples around their common rate: for a share p (1 - p), else the sample variance, by
    the squares that follow from each variant's own.
    """
    value, samples = (sum(variant[name] for variant in variants) for name in ("value", "samples"))
    if not samples:
        return {"value": value, "samples": samples}
    rate = value / samples
    figures = {"value": value, "samples": samples, "rate": rate}
    if is_share:
        return {**figures, "variance": rate * (1 - rate)}
    squares = math.fsum(
        variant["variance"] * (variant["samples"] - 1) + variant["value"] ** 2 / variant["samples"]
        for variant in variants
        if variant["samples"]
    )
    return {**figures, "variance": max(0.0, squares - value * rate) / max(1, samples - 1)}


def _threshold(project: Entity | None) -> Entity:
    return {} if project is None else {"confidence_threshold": project["confidence_threshold"]}


def _agree(experiment: Entity, campaign: Entity | None, project: Entity | None) -> None:
    """Raise BadUpstreamResponse where two services contradict each other; what is missing contradicts nothing."""
    place = experiment["layer_id"], experiment["project_id"]
    if campaign is not None and (campaign["id"], campaign["project_id"]) != place:
        raise BadUpstreamResponse("experiments", f"experiment {experiment['id']} is not in its campaign")
    owner = experiment["project_id"], experiment["account_id"]
    if project is not None and (project["id"], project["account_id"]) != owner:
        raise BadUpstreamResponse("projects", f"project {project['id']} is not that of its experiment")


def _named_metrics(entity: Entity) -> list[Entity]:
    metrics, names = entity.get("metrics") or [], entity["metric_names"]
    if len(metrics) != len(names):
        raise BadUpstreamResponse("experiments", f"{len(metrics)} metrics have {len(names)} names")
    return [{**metric, "name": name} for metric, name in zip(metrics, names, strict=True)]


def _variation(variation: Entity) -> Entity:
    variation_id = variation["variation_id"]
    return {
        "variation_id": variation_id,
        "name": variation.get("name") or variation.get("key") or str(variation_id),
    }


def _baseline(experiment: Entity, query: Query) -> str | None:
    frozen, asked = experiment["results_settings"], query.get("baseline_variation_id")
    known = [str(variation["variation_id"]) for variation in frozen["variations"]]
    if asked is None:
        if _has_holdback(experiment) and len(known) == 1:
            return HOLDBACK  # nothing else to compare the variation with
        chosen: str | None = frozen.get("baseline_variation_id")
        return chosen
    if _has_holdback(experiment):
        known.append(HOLDBACK)
    if str(asked) not in known:
        listed = ", ".join(known) or "none"
        raise BadRequest(
            f"Experiment {experiment['id']} has no variation {asked}; its variations are {listed}.",
            {"/query/baseline_variation_id": "not a variation of the experiment"},
        )
    return str(asked)


def _has_holdback(experiment: Entity) -> bool:
    """Whether the campaign may hold visitors back from the experiment, which is an experience then."""
    return experiment.get("type") == "personalization"


def _segment(query: Query) -> Entity:
    segment = {name: query[name] for name in SEGMENT_PARAMETERS if query.get(name) is not None}
    for name, value in segment.items():
        if "\0" in str(value):
            raise BadRequest(
                f"{name} holds the character U+0000, which no attribute can have.",
                {f"/query/{name}": "holds the character U+0000"},
            )
    if "attribute_value" in segment and "attribute_id" not in segment:
        raise BadRequest(
            "attribute_value needs attribute_id, the attribute whose value it is.",
            {"/query/attribute_id": "required together with attribute_value"},
        )
    return segment


@lru_cache(maxsize=1000)
def _iso(time: datetime | str) -> str:
    if isinstance(time, str):
        return time
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return format_time(aware)


def _without(entity: Entity, key: str) -> Entity:
    return {name: value for name, value in entity.items() if name != key}
