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
MODE = {
    "type": "object",
    "required": ["title"],
    "properties": {
        "start_seconds": {"type": "number"},
        "idle": _entity(processes={"type": "integer"}, memory_mb={"type": "number"}),
        "one": _entity(
            median_ms={"type": "number"},
            shortest_ms={"type": "number"},
            longest_ms={"type": "number"},
            least_possible_ms=NUMBER,
        ),
        "cpu": _entity(answers_per_second={"type": "number"}),
        "search": _entity(
            highest_rate={"type": "number"},
            trials={"type": "array", "items": _entity(rate={"type": "number"}, holds={"type": "boolean"})},
        ),
        **dict.fromkeys(("ramp", "slow", "restart", "blocking"), MEASUREMENT),
        "watchdog": _entity(
            stalls={"type": "integer"}, longest_seconds=NUMBER, first_warning={"type": "array"}
        ),
    },
}
COMPARISON = _entity(
    relation={"enum": ["more", "less", "no difference", "undecided"]},
    ratio=NUMBER,
    is_at_least={"type": "boolean"},
    text={"type": "string"},
    why={"type": "string"},
)
REPORT = _entity(
    format={"const": 2},
    began={"type": "string"},
    ended={"type": "string"},
    interrupted={"type": "boolean"},
    command={"type": "string"},
    options={"type": "object", "required": ["workers", "delay_ms", "timeout_seconds", "seed"]},
    machine={"type": "object", "required": ["system", "processor", "processors", "memory_mb", "python"]},
    versions={"type": "object", "required": ["optimizely_api", "gunicorn", "balancer"]},
    counting={"type": "string"},
    summary=_entity(
        modes={"type": "object"},
        comparisons={"type": "object", "additionalProperties": COMPARISON},
        left_out={"type": "array", "items": {"type": "string"}},
    ),
    modes={"type": "object", "additionalProperties": MODE},
)
