"""The entities of the stub: one account, one project, and an experiment for every id, all alike.

Every token is valid and every id exists. Experiment E is in campaign `CAMPAIGNS_FROM + E // fan_out`, so a campaign has
`fan_out` experiments.
"""

import math
from typing import Any

Entity = dict[str, Any]

ACCOUNT = 12_001
PROJECT = 12_002
VARIATIONS = {12_201: "Original", 12_202: "Larger button", 12_203: "Green button"}
CAMPAIGNS_FROM = 10_000_000_000
EXPERIMENTS_FROM = 9_000_000_000  # the first id in examples; every number is an experiment's id

STARTED = "2026-01-05T09:30:00Z"
ENDED = "2026-01-19T09:30:00Z"
CONFIDENCE = 0.9
STATS_CONFIG = {"confidence_level": CONFIDENCE, "difference_type": "relative", "epoch_enabled": False}
VISITORS = 4_000  # in each variation
METRIC_NAMES = {
    12_101: "Purchase",
    12_102: "Added to cart",
    12_103: "Searched",
    12_104: "Opened the menu",
    12_105: "Signed in",
}
BASELINE, *TREATMENTS = VARIATIONS


def token(token_sha256: str) -> Entity:
    return {
        "token_id": 1,
        "account_id": ACCOUNT,
        "name": "load",
        "created": STARTED,
        "token_sha256": token_sha256,
    }


def project(project_id: int) -> Entity:
    return {
        "id": project_id,
        "account_id": ACCOUNT,
        "name": "Shop",
        "platform": "web",
        "status": "active",
        "confidence_threshold": 0.9,
        "is_classic": False,
        "created": STARTED,
        "last_modified": STARTED,
    }


def experiment(experiment_id: int, fan_out: int) -> Entity:
    campaign_id = CAMPAIGNS_FROM + experiment_id // fan_out
    variations = [
        {
            "variation_id": number,
            "key": name.lower().replace(" ", "_"),
            "name": name,
            "weight": weight,
            "archived": False,
        }
        for (number, name), weight in zip(VARIATIONS.items(), (3334, 3333, 3333), strict=True)
    ]
    settings = {
        "metrics": metrics(),
        "metric_names": list(METRIC_NAMES.values()),
        "variations": variations,
        "baseline_variation_id": str(BASELINE),
        "stats_config": STATS_CONFIG,
    }
    return {
        "id": experiment_id,
        "project_id": PROJECT,
        "account_id": ACCOUNT,
        "campaign_id": campaign_id,
        "layer_id": campaign_id,
        "name": f"Experiment {experiment_id}",
        "key": f"experiment_{experiment_id}",
        "type": "a/b",
        "status": "running",
        "is_classic": False,
        "created": STARTED,
        "last_modified": STARTED,
        "earliest": STARTED,
        "metrics": settings["metrics"],
        "variations": variations,
        "results_settings": settings,
    }


def layer(layer_id: int, fan_out: int) -> Entity:
    return {
        "id": layer_id,
        "project_id": PROJECT,
        "account_id": ACCOUNT,
        "name": f"Campaign {layer_id}",
        "type": "other",
        "status": "running",
        "created": STARTED,
        "last_modified": STARTED,
        "metrics": metrics(),
        "metric_names": list(METRIC_NAMES.values()),
        "experiment_ids": experiment_ids(layer_id, fan_out),
    }


def experiment_ids(layer_id: int, fan_out: int) -> list[int]:
    first = max(0, layer_id - CAMPAIGNS_FROM) * fan_out
    return [first + number for number in range(fan_out) if first + number > 0]


def experiments_page(layer_id: int, page: int, per_page: int, fan_out: int) -> Entity:
    ids = experiment_ids(layer_id, fan_out)
    ids_of_page = ids[(page - 1) * per_page : page * per_page]
    return {"total": len(ids), "items": [experiment(number, fan_out) for number in ids_of_page]}


def metrics() -> list[Entity]:
    return [
        {"event_id": event, "aggregator": "unique", "scope": "visitor", "winning_direction": "increasing"}
        for event in METRIC_NAMES
    ]


def results(experiment_id: int) -> Entity:
    """The results of an experiment: five metrics of three variations, about 6 kB."""
    share = 1 / len(VARIATIONS)
    return {
        "experiment_id": experiment_id,
        "start_time": STARTED,
        "end_time": ENDED,
        "is_stale": False,
        "stats_config": STATS_CONFIG,
        "reach": {
            "total_count": VISITORS * len(VARIATIONS),
            "baseline_count": VISITORS,
            "treatment_count": VISITORS * len(TREATMENTS),
            "baseline_reach": share,
            "treatment_reach": share * len(TREATMENTS),
            "variations": {
                str(number): {
                    "variation_id": str(number),
                    "name": name,
                    "count": VISITORS,
                    "variation_reach": share,
                }
                for number, name in VARIATIONS.items()
            },
        },
        "metrics": [_metric_results(metric) for metric in metrics()],
    }


def _metric_results(metric: Entity) -> Entity:
    conversions = {BASELINE: 400, TREATMENTS[0]: 480, TREATMENTS[1]: 410}
    return {
        **metric,
        "name": METRIC_NAMES[metric["event_id"]],
        "conclusion": {"winner": str(TREATMENTS[0])},
        "results": {
            str(number): _variation_results(number, count, conversions[BASELINE])
            for number, count in conversions.items()
        },
    }


def _variation_results(variation_id: int, conversions: int, of_baseline: int) -> Entity:
    rate = conversions / VISITORS
    results: Entity = {
        "variation_id": str(variation_id),
        "name": VARIATIONS[variation_id],
        "level": "variation",
        "samples": VISITORS,
        "value": conversions,
        "rate": rate,
        "variance": rate * (1 - rate),
        "is_baseline": variation_id == BASELINE,
    }
    if variation_id != BASELINE:
        results["lift"] = _lift(conversions, of_baseline)
    return results


def _lift(conversions: int, of_baseline: int) -> Entity:
    """The lift by a z-test on the ratio (delta method): plausible, but not the results service's method."""
    value = conversions / of_baseline - 1
    error = (value + 1) * math.sqrt(1 / conversions + 1 / of_baseline - 2 / VISITORS)
    significance = math.erf(abs(value) / error / math.sqrt(2))
    return {
        "value": value,
        "significance": significance,
        "is_significant": significance >= CONFIDENCE,
        "lift_status": "better" if significance >= CONFIDENCE else "equal",
        "confidence_interval": [value - 1.645 * error, value + 1.645 * error],
    }
