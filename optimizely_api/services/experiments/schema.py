"""What callers may set on experiments and layers: the contract's definitions, tightened, and internal keys."""

from __future__ import annotations

from collections.abc import Mapping

from optimizely_api.contract.definitions import writable
from optimizely_api.services.schema import (
    BOOLEAN,
    CONFIDENCE_LEVEL,
    ID,
    TEXT,
    Node,
    Schema,
    map_of,
    object_of,
    one_of,
)

# What the results service answers for at once.
MAX_METRICS = 100
MAX_VARIATIONS = 100
MAX_WHITELISTED = 100
DIGITS: Node = {"type": "string", "pattern": "^[0-9]{1,16}$"}

# Internal: the project's statistics settings on the day the experiment is made.
STATS_CONFIG: Node = object_of(
    {
        "confidence_level": CONFIDENCE_LEVEL,
        "difference_type": one_of("absolute", "relative"),
        "epoch_enabled": BOOLEAN,
    }
)
# The level is the project's at the first start.
STATS_CONFIG_DEFAULTS = {"difference_type": "relative", "epoch_enabled": True}
DEFAULT_LEVEL = 0.9  # where the project's is not known

# The gateway marks the environments of the project, and names those too for which the body has no status.
_ENVIRONMENT = writable("ExperimentEnvironment")["properties"]
ENVIRONMENTS: Node = map_of(object_of({**_ENVIRONMENT, "id": ID, "is_primary": BOOLEAN}))

# By property: what the contract's schema of it has besides.
TIGHTENED: Mapping[str, Node] = {
    "key": {"minLength": 1},
    "metrics": {"maxItems": MAX_METRICS},
    "variations": {"maxItems": MAX_VARIATIONS},
    "whitelist": {"maxItems": MAX_WHITELISTED},
}


def body_schema(name: str, internal: Mapping[str, Node], *required: str) -> Schema:
    """What the contract lets callers set of a definition, tightened, and what only the gateway sets."""
    schema = writable(name)
    properties = {key: {**node, **TIGHTENED.get(key, {})} for key, node in schema["properties"].items()}
    names = sorted({*schema.get("required", ()), *required})
    whole = {**schema, "properties": {**properties, **internal}}
    return Schema({**whole, "required": names} if names else whole)


OWNERS: Mapping[str, Node] = {"account_id": ID, "project_id": ID}
EXPERIMENT = body_schema(
    "Experiment",
    {
        **OWNERS,
        "environments": ENVIRONMENTS,
        "is_classic": BOOLEAN,
        "platform": TEXT,  # of the project, which keeps it for ever
        "stats_config": STATS_CONFIG,
    },
    *OWNERS,
)
EXPERIMENT_UPDATE = body_schema(
    "ExperimentUpdate",
    {"baseline_variation_id": DIGITS, "environments": ENVIRONMENTS, "stats_config": STATS_CONFIG},
)
# Layers of the type `other` come into being with their experiments.
LAYER = body_schema("Campaign", {**OWNERS, "type": one_of("personalization")}, *OWNERS)
LAYER_UPDATE = body_schema("CampaignUpdate", {})
