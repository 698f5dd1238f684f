"""Results as CSV (RFC 4180): one row for each metric and variation, with the figures of the JSON results.

Fractions are fractions, as in JSON; an unknown figure is an empty cell. Pure functions.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

Entity = Mapping[str, Any]
Column = tuple[str, Callable[[Entity, Entity, str, Entity], Any]]

# A spreadsheet takes text that begins like this for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NOTHING: Entity = {}


def _lift(name: str) -> Callable[[Entity, Entity, str, Entity], Any]:
    return lambda results, metric, key, variant: variant.get("lift", _NOTHING).get(name)


def _bound(index: int) -> Callable[[Entity, Entity, str, Entity], Any]:
    def bound(results: Entity, metric: Entity, key: str, variant: Entity) -> Any:
        interval = variant.get("lift", _NOTHING).get("confidence_interval")
        return None if interval is None else interval[index]

    return bound


def _numerator_type(results: Entity, metric: Entity, key: str, variant: Entity) -> Any:
    """The aggregator, with the field of a sum: `sum of revenue`."""
    field = metric.get("field")
    return (
        f"{metric['aggregator']} of {field}" if field and "aggregator" in metric else metric.get("aggregator")
    )


def _properties(results: Entity, metric: Entity, key: str, variant: Entity) -> Any:
    """The filter of the metric's events, as JSON."""
    return (metric.get("event_properties") or _NOTHING).get("filter") or None


_BASELINE: Column = (
    "Is Baseline Variation",
    lambda results, metric, key, variant: variant.get("is_baseline"),
)
_FIGURES: tuple[Column, ...] = (
    ("Metric Event Name", lambda results, metric, key, variant: metric.get("name")),
    ("Metric Event ID", lambda results, metric, key, variant: metric.get("event_id")),
    ("Metric Numerator Type", _numerator_type),
    ("Metric Denominator Type", lambda results, metric, key, variant: metric.get("scope")),
    ("Metric Winning Direction", lambda results, metric, key, variant: metric.get("winning_direction")),
    ("Numerator Value", lambda results, metric, key, variant: variant.get("value")),
    ("Denominator Value", lambda results, metric, key, variant: variant.get("samples")),
    ("Metric Value", lambda results, metric, key, variant: variant.get("rate")),
    ("Improvement Status from Baseline", _lift("lift_status")),
    ("Improvement Value from Baseline", _lift("value")),
    ("Statistical Significance", _lift("significance")),
    ("Is Improvement Significant", _lift("is_significant")),
    ("Confidence Interval - Low", _bound(0)),
    ("Confidence Interval - High", _bound(1)),
    ("Samples Remaining to Significance", _lift("visitors_remaining")),
)


def _times(start: str, end: str) -> tuple[Column, ...]:
    return (
        (start, lambda results, metric, key, variant: results.get("start_time")),
        (end, lambda results, metric, key, variant: results.get("end_time")),
    )


# The titles are those of the public API, down to their capitals, which differ between the two files.
EXPERIMENT_COLUMNS: tuple[Column, ...] = (
    *_times("Start time (UTC)", "End time (UTC)"),
    ("Variation Name", lambda results, metric, key, variant: variant.get("name")),
    ("Variation ID", lambda results, metric, key, variant: variant.get("variation_id")),
    _BASELINE,
    *_FIGURES,
    ("Properties", _properties),
)
# The last one is our own: without it, only their order would tell the rows of a metric apart.
CAMPAIGN_COLUMNS: tuple[Column, ...] = (
    *_times("Start Time (UTC)", "End Time (UTC)"),
    _BASELINE,
    *_FIGURES,
    ("Variant", lambda results, metric, key, variant: key),
)


def csv_chunks(columns: Sequence[Column], results: Entity) -> Iterator[bytes]:
    """The file in UTF-8: the titles, then the rows of one metric after the other, so that no more is in memory."""
    yield _lines([[title for title, _ in columns]])
    for metric in results.get("metrics", ()):
        rows = (
            [_cell(read(results, metric, key, variant)) for _, read in columns]
            for key, variant in metric.get("results", _NOTHING).items()
        )
        if lines := _lines(rows):
            yield lines


def _lines(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return orjson.dumps(value).decode()  # the figures are the same text as in JSON
