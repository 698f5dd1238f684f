"""Entities as the three services answer them, small and complete enough to be valid."""

import hashlib
import json
from typing import Any

from optimizely_api.contract.definitions import example

ACCOUNT, OTHER_ACCOUNT = 1001, 1002
TOKEN, OTHER_TOKEN = "2:token-of-account-1001", "2:token-of-account-1002"
PROJECT, OTHER_PROJECT = 2001, 2002
LAYER, OTHER_LAYER = 3001, 3002
EXPERIMENT, SECOND_EXPERIMENT, OTHER_EXPERIMENT = 4001, 4002, 4003
EVENT, OTHER_EVENT, CLICK, ARCHIVED_EVENT, ARCHIVED_CLICK = range(5001, 5006)
BASELINE, TREATMENT = 6001, 6002
# Of every kind of entity that has no ids of its own here.
ENTITY, OTHER_ENTITY, ARCHIVED_ENTITY, ENTITY_IN_USE = 7001, 7002, 7003, 7004
SERVICES_KEY = "the-services-key-of-the-tests"
CREATED = "2026-01-05T09:30:00Z"


def entity(definition: str, entity_id: int = ENTITY, **members: Any) -> dict[str, Any]:
    """An entity of the contract's example values, with the internal keys of a service."""
    sample = example(definition)
    owner = {"account_id": ACCOUNT, "project_id": PROJECT, "archived": False}
    parent = {"experiment_id": EXPERIMENT} if "experiment_id" in sample else {}
    return {**sample, **owner, **parent, "id": entity_id, "created": CREATED, **members}


def entities(definition: str) -> list[dict[str, Any]]:
    """One of the account, one of another account, one in the archive, and one that cannot go there."""
    return [
        entity(definition),
        entity(definition, OTHER_ENTITY, account_id=OTHER_ACCOUNT, project_id=OTHER_PROJECT),
        entity(definition, ARCHIVED_ENTITY, archived=True),
        entity(definition, ENTITY_IN_USE),
    ]


def datafile(sdk_key: str, revision: int = 1, built: str = CREATED) -> dict[str, Any]:
    """What the experiments service serves of a datafile."""
    content = json.dumps({"version": "4", "revision": str(revision), "sdkKey": sdk_key, "experiments": []})
    return {"sdk_key": sdk_key, "revision": revision, "last_modified": built, "content": content}


def token(text: str = TOKEN, account_id: int = ACCOUNT) -> dict[str, Any]:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return {
        "token_id": 1,
        "account_id": account_id,
        "name": "test",
        "created": CREATED,
        "token_sha256": sha256,
    }


def user(role: str = "", *, is_administrator: bool = False) -> dict[str, Any]:
    """A user with this role in the project, or none."""
    roles = {str(PROJECT): role} if role else {}
    user_id = "fa74a14b-1f3a-463d-aa98-2f7124ee6fc3"
    names = {"email": "ada@shop.example", "first_name": "Ada", "last_name": "Shop"}
    rights = {"is_administrator": is_administrator, "roles": roles}
    return {"id": user_id, "account_id": ACCOUNT, **names, **rights}


def project(project_id: int = PROJECT, account_id: int = ACCOUNT) -> dict[str, Any]:
    return {
        "id": project_id,
        "account_id": account_id,
        "name": f"Project {project_id}",
        "platform": "web",
        "status": "active",
        "confidence_threshold": 0.9,
        "is_classic": False,
        "web_snippet": {"include_jquery": False, "library": "none"},
        "created": CREATED,
        "last_modified": CREATED,
    }


def experiment(
    experiment_id: int = EXPERIMENT,
    layer_id: int = LAYER,
    project_id: int = PROJECT,
    account_id: int = ACCOUNT,
) -> dict[str, Any]:
    settings = results_settings()
    return {
        "id": experiment_id,
        "project_id": project_id,
        "account_id": account_id,
        "campaign_id": layer_id,
        "layer_id": layer_id,
        "name": f"Experiment {experiment_id}",
        "key": f"experiment_{experiment_id}",
        "type": "a/b",
        "status": "running",
        "is_classic": False,
        "created": CREATED,
        "last_modified": CREATED,
        "earliest": CREATED,
        "metrics": settings["metrics"],
        "variations": settings["variations"],
        "results_settings": settings,
    }


def results_settings() -> dict[str, Any]:
    """What an experiment's results are computed by, frozen when it was started."""
    return {
        "metrics": [metric()],
        "metric_names": ["Purchase"],
        "variations": [
            {
                "variation_id": BASELINE,
                "key": "original",
                "name": "Original",
                "weight": 5000,
                "archived": False,
            },
            {
                "variation_id": TREATMENT,
                "key": "larger",
                "name": "Larger button",
                "weight": 5000,
                "archived": False,
            },
        ],
        "baseline_variation_id": str(BASELINE),
        "stats_config": {"confidence_level": 0.9, "difference_type": "relative", "epoch_enabled": False},
    }


def metric() -> dict[str, Any]:
    return {"event_id": EVENT, "aggregator": "unique", "scope": "visitor", "winning_direction": "increasing"}


def layer(
    layer_id: int = LAYER,
    project_id: int = PROJECT,
    account_id: int = ACCOUNT,
    experiment_ids: tuple[int, ...] = (EXPERIMENT,),
) -> dict[str, Any]:
    return {
        "id": layer_id,
        "project_id": project_id,
        "account_id": account_id,
        "name": f"Campaign {layer_id}",
        "type": "other",
        "status": "running",
        "created": CREATED,
        "last_modified": CREATED,
        "metrics": [metric()],
        "metric_names": ["Purchase"],
        "experiment_ids": list(experiment_ids),
    }


def event(
    event_id: int = EVENT, project_id: int = PROJECT, account_id: int = ACCOUNT, **members: Any
) -> dict[str, Any]:
    return {
        "id": event_id,
        "project_id": project_id,
        "account_id": account_id,
        "key": "purchase",
        "name": "Purchase",
        "event_type": "custom",
        "category": "purchase",
        "is_classic": False,
        "archived": False,
        "created": CREATED,
        "last_modified": CREATED,
        **members,
    }


def click(event_id: int = CLICK, **members: Any) -> dict[str, Any]:
    """A click event on the page ENTITY."""
    return event(event_id, event_type="click", page_id=ENTITY, key=f"click_{event_id}", **members)


def results() -> dict[str, Any]:
    return {
        "start_time": CREATED,
        "end_time": "2026-01-19T09:30:00Z",
        "is_stale": False,
        "stats_config": {"confidence_level": 0.9, "difference_type": "relative", "epoch_enabled": False},
        "reach": {
            "total_count": 2000,
            "baseline_count": 1000,
            "treatment_count": 1000,
            "baseline_reach": 0.5,
            "treatment_reach": 0.5,
            "variations": {
                str(BASELINE): _reach(BASELINE, "Original"),
                str(TREATMENT): _reach(TREATMENT, "Larger button"),
            },
        },
        "metrics": [
            {
                **metric(),
                "name": "Purchase",
                "conclusion": {"winner": str(TREATMENT)},
                "results": {
                    str(BASELINE): {**_variant(BASELINE, "Original", 100), "is_baseline": True},
                    str(TREATMENT): {
                        **_variant(TREATMENT, "Larger button", 150),
                        "is_baseline": False,
                        "lift": {
                            "value": 0.5,
                            "significance": 0.99,
                            "is_significant": True,
                            "lift_status": "better",
                            "confidence_interval": [0.2, 0.8],
                        },
                    },
                },
            }
        ],
    }


def timeseries() -> dict[str, Any]:
    """The results at two times."""
    series = {key: value for key, value in results().items() if key != "reach"}
    for one in series["metrics"]:
        del one["conclusion"]
        for variant in one["results"].values():
            figures = {
                name: variant.pop(name)
                for name in ("value", "samples", "rate", "variance", "lift")
                if name in variant
            }
            times = ("2026-01-06T00:00:00Z", series["end_time"])
            variant["timeseries"] = [{"time": time, **figures} for time in times]
    return series


def _reach(variation_id: int, name: str) -> dict[str, Any]:
    return {"variation_id": str(variation_id), "name": name, "count": 1000, "variation_reach": 0.5}


def _variant(variation_id: int, name: str, value: int) -> dict[str, Any]:
    return {
        "variation_id": str(variation_id),
        "name": name,
        "level": "variation",
        "samples": 1000,
        "value": value,
        "rate": value / 1000,
        "variance": value / 1000 * (1 - value / 1000),
    }
