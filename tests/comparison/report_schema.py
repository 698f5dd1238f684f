"""What report.json holds, as JSON schema: whoever reads reports may rely on it."""

from typing import Any

NUMBER = {"type": ["number", "null"]}
COUNTS = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}


def _entity(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


SECOND = _entity(
    start={"type": "number"},
    end={"type": "number"},
    rate={"type": "number"},
    offered={"type": "integer"},
    good={"type": "integer"},
    lost={"type": "integer"},
    errors=COUNTS,
    p50_ms=NUMBER,
    p99_ms=NUMBER,
    max_ms=NUMBER,
    fit={"type": "boolean"},
)
WATCHDOG = _entity(stalls={"type": "integer"}, longest_seconds=NUMBER, commonest_warning={"type": "array"})
TRIAL = _entity(
    mode={"type": "string"},
    scenario={"enum": ["one", "cpu", "search", "steady", "ramp", "slow", "restart", "blocking", "overload"]},
    repetition={"type": "integer", "minimum": 1},
    rate_kind={"enum": ["equal", "own share", "overload", "growing", "tried", None]},
    share=NUMBER,
    rate=NUMBER,
    refused={"type": "array", "items": {"type": "string"}},
)
MEASUREMENT = _entity(
    offered={"type": "integer"},
    good={"type": "integer"},
    lost={"type": "integer"},
    errors=COUNTS,
    error_count={"type": "integer"},
    error_share={"type": "number", "minimum": 0, "maximum": 1},
    other=COUNTS,
    counted_by={"enum": ["load balancer", "load generator"]},
    offered_rate={"type": "number"},
    achieved_rate={"type": "number"},
    percentiles_ms={
        "type": "object",
        "required": ["50", "99", "100"],
        "additionalProperties": NUMBER,
    },
    seconds={"type": "array", "minItems": 1, "items": SECOND},
    distribution={"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
    not_fit={"type": "array", "items": {"type": "string"}},
    generator={"type": "object", "required": ["lag_p99_ms", "statuses", "failures", "cpu_seconds"]},
    balancer=COUNTS,
    usage=_entity(
        most_processes={"type": "integer"},
        most_memory_mb={"type": "number"},
        cpu_seconds={"type": "object"},
        window_seconds={"type": "number", "exclusiveMinimum": 0},
        others_share={"type": "number", "minimum": 0, "maximum": 1},
    ),
    events={"type": "array", "items": _entity(at={"type": "number"}, what={"type": "string"})},
)
ATTEMPT = _entity(
    rate={"type": "number"},
    seconds={"type": "number"},
    holds={"type": "boolean"},
    offered={"type": "integer"},
    good={"type": "integer"},
    p50_ms=NUMBER,
    p99_ms=NUMBER,
    slow_ms=NUMBER,
    not_fit={"type": "array"},
    usage={"type": "object"},
)
OF_SCENARIO = {
    "one": _entity(
        durations_ms={"type": "array", "minItems": 1, "items": {"type": "number"}}, least_possible_ms=NUMBER
    ),
    "cpu": _entity(
        answers={"type": "integer"}, seconds={"type": "number"}, answers_per_second={"type": "number"}
    ),
    "search": _entity(
        highest_rate={"type": "number"},
        lowest_failed=NUMBER,
        reached_limit={"type": "boolean"},
        trials={"type": "array", "items": ATTEMPT},
    ),
    **dict.fromkeys(("steady", "slow", "restart"), MEASUREMENT),
    "ramp": {
        "allOf": [
            MEASUREMENT,
            _entity(highest_rate={"type": "number"}, reached_limit={"type": "boolean"}),
        ]
    },
    "blocking": {
        "allOf": [
            MEASUREMENT,
            _entity(blocking_ms={"type": "number"}, blocking_rate={"type": "number"}, watchdog=WATCHDOG),
        ]
    },
    "overload": {
        "allOf": [
            MEASUREMENT,
            _entity(
                limit_rate={"type": "number"},
                overload_seconds={"type": "number"},
                goodput={"type": "array", "minItems": 1, "items": {"type": "number"}},
                recovery_seconds=NUMBER,
                recovery_window_seconds={"type": "number"},
            ),
        ]
    },
}
ANY_TRIAL = {
    "allOf": [
        TRIAL,
        *(
            {"if": {"properties": {"scenario": {"const": scenario}}}, "then": shape}
            for scenario, shape in OF_SCENARIO.items()
        ),
    ]
}
MODE = _entity(
    title={"type": "string"},
    worker_class={"type": "string"},
    fan_out={"type": "string"},
    workers={"type": "integer", "minimum": 1},
    threads={"type": ["integer", "null"]},
    connections={"type": ["integer", "null"]},
    blocks_the_loop={"type": "boolean"},
    code={"type": "array", "minItems": 1, "items": {"type": "string"}},
    starts={
        "type": "array",
        "items": _entity(
            repetition={"type": "integer"},
            seconds={"type": "number"},
            processes={"type": "integer"},
            memory_mb={"type": "number"},
        ),
    },
    watchdog=WATCHDOG,
)
TRACE = _entity(
    mode={"type": "string"},
    requests={
        "type": "array",
        "items": _entity(
            start={"type": "number"},
            end={"type": "number"},
            status={"type": "integer"},
            calls={
                "type": "array",
                "items": _entity(
                    service={"type": "string"}, path={"type": "string"}, begin={"type": "number"}, end=NUMBER
                ),
            },
        ),
    },
)
FIGURE = {
    "anyOf": [
        {"type": "null"},
        _entity(
            value=NUMBER,
            least=NUMBER,
            most=NUMBER,
            trials={"type": "integer", "minimum": 1},
            requests={"type": ["integer", "null"]},
            text={"type": "string"},
        ),
    ]
}
ROW = _entity(
    title={"type": "string"},
    highest_rate_text={"type": ["string", "null"]},
    highest_rate_found_by={"enum": ["search", "ramp", None]},
    highest_rate_may_be_more={"type": "boolean"},
    figures={"type": "object", "required": ["highest_rate"], "additionalProperties": FIGURE},
)
COMPARISON = _entity(
    relation={"enum": ["more", "less", "no difference", "undecided"]},
    ratio=NUMBER,
    least=NUMBER,
    most=NUMBER,
    is_at_least={"type": "boolean"},
    text={"type": "string"},
    why={"type": "string"},
)
REPORT = _entity(
    format={"const": 3},
    began={"type": "string"},
    ended={"type": "string"},
    interrupted={"type": "boolean"},
    command={"type": "string"},
    options={"type": "object", "required": ["workers", "delay_ms", "timeout_seconds", "seed"]},
    machine={"type": "object", "required": ["system", "processor", "processors", "memory_mb", "python"]},
    versions={"type": "object", "required": ["optimizely_api", "gunicorn", "balancer"]},
    counting={"type": "string"},
    summary=_entity(
        modes={"type": "object", "additionalProperties": ROW},
        comparisons={"type": "object", "additionalProperties": COMPARISON},
        slots={
            "type": "object",
            "additionalProperties": _entity(
                slots={"type": "integer"}, seconds={"type": "number"}, rate={"type": "number"}
            ),
        },
        left_out={"type": "array", "items": {"type": "string"}},
    ),
    modes={"type": "object", "additionalProperties": MODE},
    trials={"type": "array", "items": ANY_TRIAL},
    traces={"type": "array", "items": TRACE},
)
