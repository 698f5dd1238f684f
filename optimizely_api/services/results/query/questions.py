"""The request body of `POST /results/{experiment_id}` as a checked value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.query import parse_time
from optimizely_api.services.results.query.ids import read_id
from optimizely_api.services.results.query.segments import Condition, read_segment
from optimizely_api.services.results.tables import HOLDBACK

FIVE_MINUTES_MILLISECONDS = 5 * 60 * 1000  # the gateway caches results for the same five minutes of the clock
CLOCK_TOLERANCE_MILLISECONDS = 5 * 60 * 1000  # an interval that ends now includes events dated this far ahead
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOLDBACK_ID, HOLDBACK_KEY = "holdback", "baseline"
MAX_METRICS = 100
MAX_VARIATIONS = 100
MAX_EPOCHS = 500  # SQLite allows at most 1,000 conditions in a chain
MAX_WEIGHT = 10_000
KNOWN = {
    "aggregator": ("unique", "count", "sum", "bounce", "exit", "ratio"),
    "scope": ("visitor", "event", "session"),
    "winning_direction": ("increasing", "decreasing"),
}
COMPUTED_AGGREGATORS, COMPUTED_SCOPES = KNOWN["aggregator"][:3], KNOWN["scope"][:2]
# The keys of a metric that the response repeats if the request has them.
METRIC_KEYS = (
    "aggregator",
    "event_id",
    "event_properties",
    "field",
    "metrics",
    "name",
    "scope",
    "time_window",
    "winning_direction",
)
DEFAULT_CONFIDENCE_LEVEL = 0.9
_WINDOW = re.compile("([0-9]{1,6})([dhm]?)")
_UNITS = {"d": 86_400_000, "h": 3_600_000, "": 3_600_000, "m": 60_000}


@dataclass(frozen=True)
class Metric:
    """A metric to compute; `given` has the keys of its definition that the response repeats.

    `window` is the time after the decision in which conversions count, in milliseconds; 0: all conversions count;
    None: the definition's window cannot be read.
    """

    aggregator: Literal["unique", "count", "sum", "bounce", "exit", "ratio"]
    scope: Literal["visitor", "event", "session"]
    field: Literal["revenue", "value"] | None
    event_id: int | None
    winning_direction: Literal["increasing", "decreasing"]
    given: dict[str, Any]
    window: int | None = 0

    @property
    def is_computed(self) -> bool:
        """Whether it has results. A metric of another kind has none, without failing the other metrics."""
        properties = self.given.get("event_properties")
        is_filtered = isinstance(properties, dict) and bool(properties.get("filter"))
        is_known = self.aggregator in COMPUTED_AGGREGATORS and self.scope in COMPUTED_SCOPES
        return is_known and not is_filtered and self.window is not None


@dataclass(frozen=True)
class Variation:
    """A variation to report on."""

    variation_id: int
    name: str

    @property
    def is_holdback(self) -> bool:
        """Whether it stands for the visitors who were held back from the campaign."""
        return self.variation_id == HOLDBACK

    @property
    def text_id(self) -> str:
        """The id in responses, and in `baseline_variation_id`."""
        return HOLDBACK_ID if self.is_holdback else str(self.variation_id)

    @property
    def key(self) -> str:
        """Its key among the results of a metric."""
        return HOLDBACK_KEY if self.is_holdback else self.text_id


@dataclass(frozen=True)
class Interval:
    """From `start` (None: the first decision) to `end` (None: now), in milliseconds.

    Events before `limit` count: the requested end, or now plus a tolerance for senders' clocks that are ahead.
    """

    start: int | None
    end: int | None
    limit: int

    @property
    def is_empty(self) -> bool:
        """Whether no event can lie in it."""
        return self.start is not None and self.start >= self.limit

    @property
    def five_minutes(self) -> int | None:
        """The current five minutes of the clock (numbered from 1970), for an interval that ends now; else None."""
        if self.end is not None:
            return None
        return (self.limit - CLOCK_TOLERANCE_MILLISECONDS) // FIVE_MINUTES_MILLISECONDS

    def will_contain(self, moment: int) -> bool:
        """Whether an event at `moment`, now after the limit, enters the interval by time alone."""
        return self.end is None and moment >= self.limit


@dataclass(frozen=True)
class Epoch:
    """A time in which the experiment ran with unchanged weights (by variation id), in milliseconds.

    `end` is None if it still runs.
    """

    start: int
    end: int | None
    weights: dict[int, int]


@dataclass(frozen=True)
class Question:
    """A question about one experiment; `epochs` is None when it is unknown when the experiment ran."""

    experiment_id: int
    project_id: int
    metrics: tuple[Metric, ...]
    variations: tuple[Variation, ...]
    baseline: Variation
    stats_config: dict[str, Any]
    interval: Interval
    segment: Condition | None
    epochs: tuple[Epoch, ...] | None = None

    @property
    def treatments(self) -> tuple[Variation, ...]:
        """All variations but the baseline; visitors who were held back are compared only as the baseline."""
        return tuple(
            variation
            for variation in self.variations
            if variation != self.baseline and not variation.is_holdback
        )

    @property
    def reached(self) -> tuple[Variation, ...]:
        """The variations whose visitors are in the experiment: those held back only as the baseline."""
        return tuple(
            variation
            for variation in self.variations
            if variation == self.baseline or not variation.is_holdback
        )


def read_question(experiment_id: int, body: Any) -> Question:
    """Check the request body; raises a ServiceError (400) naming the unusable field."""
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    variations = _read_variations(body.get("variations"))
    if body.get("holdback") is True:
        variations += (Variation(HOLDBACK, "Holdback"),)
    epochs = _read_epochs(body.get("epochs"))
    if epochs is None and body.get("earliest") is not None:
        epochs = (Epoch(_to_milliseconds(parse_time(body["earliest"], "earliest")), None, {}),)
    return Question(
        experiment_id=experiment_id,
        project_id=read_id(body.get("project_id"), "project_id"),
        metrics=_read_metrics(body.get("metrics")),
        variations=variations,
        baseline=_read_baseline(body.get("baseline_variation_id"), variations),
        stats_config=_read_stats_config(body.get("stats_config")),
        interval=_read_interval(body, datetime.now(UTC), epochs),
        segment=read_segment(body.get("segment")),
        epochs=epochs,
    )


def to_time(milliseconds: int) -> datetime:
    """A time in milliseconds since 1970 as a datetime, cut to the second."""
    return EPOCH + timedelta(seconds=milliseconds // 1000)


def _to_milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _read_list(value: Any, name: str, most: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad_request(f"{name} must be an array of objects")
    if len(value) > most:
        raise bad_request(f"{name} has {len(value)} members, more than {most}")
    return value


def _read_variations(value: Any) -> tuple[Variation, ...]:
    items = _read_list(value, "variations", MAX_VARIATIONS)
    variations = []
    for index, item in enumerate(items):
        number = read_id(item.get("variation_id"), f"variations[{index}].variation_id")
        name = item.get("name")
        variations.append(Variation(number, name if isinstance(name, str) else ""))
    if not variations:
        raise bad_request("variations must name at least one variation")
    if len({variation.variation_id for variation in variations}) < len(variations):
        raise bad_request("variations names a variation twice")
    return tuple(variations)


def _read_baseline(value: Any, variations: tuple[Variation, ...]) -> Variation:
    if value is None or value == "":
        return variations[0]
    number = HOLDBACK if value == HOLDBACK_ID else read_id(value, "baseline_variation_id")
    for variation in variations:
        if variation.variation_id == number:
            return variation
    raise bad_request(f"baseline_variation_id {number} is none of the variations")


def _read_metrics(value: Any) -> tuple[Metric, ...]:
    items = _read_list(value, "metrics", MAX_METRICS)
    return tuple(_read_metric(item, f"metrics[{index}]") for index, item in enumerate(items))


def _read_metric(item: dict[str, Any], name: str) -> Metric:
    aggregator = _one_of(item, name, "aggregator", None)
    scope = _one_of(item, name, "scope", "visitor")
    direction = _one_of(item, name, "winning_direction", "increasing")
    field = item.get("field")
    if aggregator == "sum" and field not in ("revenue", "value"):
        raise bad_request(f"{name}.field must be revenue or value for the aggregator sum")
    event_id = item.get("event_id")
    return Metric(
        aggregator,
        scope,
        field if aggregator == "sum" else None,
        None if event_id is None else read_id(event_id, f"{name}.event_id"),
        direction,
        {
            key: item[key]
            for key in METRIC_KEYS
            if item.get(key) is not None or (key == "event_id" and key in item)
        },
        _window(item.get("time_window")),
    )


def _window(text: Any) -> int | None:
    """A window (`7d`, `48h`, `30m`, or a number of hours) in milliseconds; 0 for no window, None for other text."""
    if text is None or text == "":
        return 0
    match = _WINDOW.fullmatch(str(text).strip())
    return int(match[1]) * _UNITS[match[2]] if match and int(match[1]) else None


def _one_of(item: dict[str, Any], name: str, key: str, default: str | None) -> Any:
    value = item.get(key)
    value = default if value is None else value
    if value not in KNOWN[key]:
        shown = "missing" if value is None else repr(value)[:40]
        raise bad_request(f"{name}.{key} is {shown}; known: {', '.join(KNOWN[key])}")
    return value


def _read_stats_config(value: Any) -> dict[str, Any]:
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise bad_request("stats_config must be an object")
    level = value.get("confidence_level", DEFAULT_CONFIDENCE_LEVEL)
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise bad_request("stats_config.confidence_level must lie between 0 and 1, such as 0.9")
    difference_type = value.get("difference_type", "relative")
    if difference_type not in ("absolute", "relative"):
        raise bad_request("stats_config.difference_type must be absolute or relative")
    epoch_enabled = value.get("epoch_enabled", True)
    if not isinstance(epoch_enabled, bool):
        raise bad_request("stats_config.epoch_enabled must be true or false")
    return {"confidence_level": level, "difference_type": difference_type, "epoch_enabled": epoch_enabled}


def _read_epochs(value: Any) -> tuple[Epoch, ...] | None:
    """Epochs in order, each `{"start_time", "end_time", "weights": {variation id: weight}}`.

    The last one has no `end_time` if the experiment still runs.
    """
    if value is None:
        return None
    items = _read_list(value, "epochs", MAX_EPOCHS)
    return tuple(_read_epoch(item, f"epochs[{index}]") for index, item in enumerate(items))


def _read_epoch(item: dict[str, Any], name: str) -> Epoch:
    weights = item.get("weights")
    if not isinstance(weights, dict) or not all(_is_weight(weight) for weight in weights.values()):
        raise bad_request(f"{name}.weights must be an object of whole numbers from 0 to {MAX_WEIGHT}")
    end = item.get("end_time")
    return Epoch(
        _to_milliseconds(parse_time(item.get("start_time"), f"{name}.start_time")),
        None if end is None else _to_milliseconds(parse_time(end, f"{name}.end_time")),
        {read_id(key, f"{name}.weights"): weight for key, weight in weights.items()},
    )


def _is_weight(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_WEIGHT


def _read_interval(body: dict[str, Any], now: datetime, epochs: tuple[Epoch, ...] | None) -> Interval:
    """The interval, with the requested start rounded up to five minutes and the requested end rounded down.

    A start before `earliest` means `earliest`, which is not rounded. An end in the future means now. Without an end the
    interval ends when the experiment stopped running, or now if it still runs.
    """
    start, end, earliest = (
        None if body.get(name) is None else _to_milliseconds(parse_time(body[name], name))
        for name in ("start_time", "end_time", "earliest")
    )
    if start is not None and end is not None and end < start:
        raise bad_request("end_time is before start_time")
    if start is not None:
        start = -(-start // FIVE_MINUTES_MILLISECONDS) * FIVE_MINUTES_MILLISECONDS
    starts = [moment for moment in (start, earliest) if moment is not None]
    start = max(starts, default=None)
    if end is not None:
        end = end // FIVE_MINUTES_MILLISECONDS * FIVE_MINUTES_MILLISECONDS
    elif epochs:
        ends = [epoch.end for epoch in epochs]
        end = None if None in ends else max(moment for moment in ends if moment is not None)
    present = _to_milliseconds(now)
    if end is None or end > present:
        return Interval(start, None, present + CLOCK_TOLERANCE_MILLISECONDS)
    return Interval(start, end, end)
