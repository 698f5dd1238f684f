"""What callers may set on experiments, layers and events: the writable part of the contract's definitions."""

from __future__ import annotations

from optimizely_api.services.schema import (
    BOOLEAN,
    CONFIDENCE_LEVEL,
    ID,
    TEXT,
    Node,
    Schema,
    list_of,
    map_of,
    nullable,
    object_of,
    one_of,
)

# What the results service answers for at once.
MAX_METRICS = 100
MAX_VARIATIONS = 100
BASIS_POINTS = {"type": "integer", "minimum": 0, "maximum": 10000}
DIGITS = {"type": "string", "pattern": "^[0-9]{1,16}$"}
KEY = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9_-]+$"}
# Named by the service when missing, but kept when sent: other changes depend on it.
CHANGE_ID = {"type": "string", "format": "uuid"}
SCHEDULE_TIME = {
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}(T\d{2}(:\d{2}(:00(\.000)?)?)?((Z)?))?$",
}

SHARED_CHANGE = object_of(
    {
        "async": BOOLEAN,
        "dependencies": list_of(CHANGE_ID),
        "id": CHANGE_ID,
        "name": TEXT,
        "selector": TEXT,
        "type": one_of("custom_code", "custom_css"),
        "value": TEXT,
    },
    "type",
    "value",
)

CSS_NAMES = (
    "background-color",
    "background-image",
    "border-color",
    "border-style",
    "border-width",
    "color",
    "font-family",
    "font-size",
    "font-weight",
    "height",
    "position",
    "width",
)
CHANGE_ATTRIBUTE_NAMES = ("class", "hide", "href", "html", "remove", "src", "style", "text")
CHANGE_TYPES = (
    "attribute",
    "custom_code",
    "custom_css",
    "extension",
    "insert_html",
    "insert_image",
    "redirect",
)
CHANGE = object_of(
    {
        "allow_additional_redirect": BOOLEAN,
        "async": BOOLEAN,
        "attributes": object_of(dict.fromkeys(CHANGE_ATTRIBUTE_NAMES, TEXT)),
        "config": {"type": "object"},
        "css": object_of(dict.fromkeys(CSS_NAMES, TEXT)),
        "dependencies": list_of(CHANGE_ID),
        "destination": TEXT,
        "destination_function": TEXT,
        "id": CHANGE_ID,
        "name": TEXT,
        "operator": TEXT,
        "preserve_parameters": BOOLEAN,
        "rearrange": {"type": "object"},
        "selector": TEXT,
        "type": one_of(*CHANGE_TYPES),
        "value": TEXT,
    },
    "type",
)
CHANGE["properties"]["attributes"]["properties"].update(hide=BOOLEAN, remove=BOOLEAN)

VARIATION = object_of(
    {
        "actions": list_of(object_of({"changes": list_of(CHANGE), "page_id": ID}, "page_id")),
        "archived": BOOLEAN,
        "description": TEXT,
        "feature_enabled": BOOLEAN,
        "key": KEY,
        "name": TEXT,
        "status": one_of("active", "paused", "archived"),
        "variable_values": map_of(TEXT),
        "variation_id": ID,
        "weight": BASIS_POINTS,
    },
    "weight",
)

SCOPE = one_of("session", "visitor", "event")
FIELD = one_of("revenue", "value")
CONDITION_OPERATORS = (
    "equal_to",
    "not_equal_to",
    "greater_than",
    "greater_than_or_equal_to",
    "less_than",
    "less_than_or_equal_to",
    "contains",
    "does_not_contain",
)
CONDITION = object_of(
    {
        "name": TEXT,
        "operator": one_of(*CONDITION_OPERATORS),
        "type": one_of("boolean", "number", "string"),
        "value": TEXT,
    }
)
FILTER = object_of({"combine_operator": one_of("and", "or"), "conditions": list_of(CONDITION)})
SUB_METRIC = object_of(
    {
        "aggregator": one_of("unique", "count", "sum"),
        "event_id": nullable(ID),
        "event_type": one_of("custom", "click", "pageview"),
        "field": nullable(FIELD),
        "scope": SCOPE,
    }
)
METRIC = object_of(
    {
        "aggregator": one_of("unique", "count", "sum", "bounce", "exit", "ratio"),
        "event_id": nullable(ID),
        "event_properties": object_of({"filter": FILTER}),
        "field": FIELD,
        "metrics": list_of(SUB_METRIC),
        "scope": SCOPE,
        "time_window": TEXT,
        "winning_direction": one_of("increasing", "decreasing"),
    }
)

SCHEDULE = object_of(
    {
        "start_time": SCHEDULE_TIME,
        "stop_time": SCHEDULE_TIME,
        "time_zone": {"type": "string", "pattern": "^[A-Za-z/_-]+$"},
    }
)
ACTIVATION_TYPES = ("immediate", "manual", "polling", "callback", "dom_changed", "url_changed")
URL_TARGETING = object_of(
    {
        "activation_code": TEXT,
        "activation_type": one_of(*ACTIVATION_TYPES),
        "conditions": TEXT,
        "edit_url": TEXT,
        "key": {"type": "string", "maxLength": 64, "pattern": "^[a-zA-Z0-9_]+$"},
    },
    "edit_url",
)
ENVIRONMENT = object_of({"status": one_of("running", "paused", "not_started", "archived")}, "status")
WHITELIST = list_of(object_of({"user_id": TEXT, "variation_id": ID}, "user_id", "variation_id"))

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

EXPERIMENT_CHANGEABLE = {
    "audience_conditions": TEXT,
    "changes": list_of(SHARED_CHANGE),
    "description": TEXT,
    "environments": map_of(ENVIRONMENT),
    "feature_id": ID,
    "holdback": BASIS_POINTS,
    "key": KEY,
    "metrics": list_of(METRIC, most=MAX_METRICS),
    "name": TEXT,
    "page_ids": list_of(ID),
    "schedule": SCHEDULE,
    "stats_config": STATS_CONFIG,
    "traffic_allocation": BASIS_POINTS,
    "url_targeting": URL_TARGETING,
    "variations": list_of(VARIATION, most=MAX_VARIATIONS),
    "whitelist": WHITELIST,
}
EXPERIMENT_SET_ONCE = {
    "account_id": ID,
    "campaign_id": ID,
    "feature_key": TEXT,
    "feature_name": TEXT,
    "is_classic": BOOLEAN,
    "multivariate_traffic_policy": one_of("full_factorial"),
    "project_id": ID,
    "results_token": TEXT,
    "type": one_of("a/b", "feature", "multivariate", "personalization", "multiarmed_bandit"),
}
LAYER_CHANGEABLE = {
    "changes": list_of(SHARED_CHANGE),
    "description": TEXT,
    "experiment_priorities": list_of(list_of(ID)),
    "holdback": BASIS_POINTS,
    "metrics": list_of(METRIC, most=MAX_METRICS),
    "name": TEXT,
    "page_ids": list_of(ID),
    "url_targeting": URL_TARGETING,
}
EXPERIMENT = Schema(object_of({**EXPERIMENT_CHANGEABLE, **EXPERIMENT_SET_ONCE}, "account_id", "project_id"))
EXPERIMENT_UPDATE = Schema(object_of({**EXPERIMENT_CHANGEABLE, "baseline_variation_id": DIGITS}))
LAYER = Schema(
    object_of(
        {
            **LAYER_CHANGEABLE,
            "account_id": ID,
            "project_id": ID,
            "type": one_of("personalization", "other"),
        },
        "account_id",
        "project_id",
    )
)
LAYER_UPDATE = Schema(object_of(LAYER_CHANGEABLE))
