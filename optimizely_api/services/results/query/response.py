"""Makes the response body of `POST /results/{experiment_id}` from a measurement, in the shapes of the contract.

Undefined figures are left out: a rate without samples, a relative lift over a baseline of zero, an interval without
bounds. A metric of a kind that is not computed is repeated without results.

`value` is the metric's numerator and `samples` its denominator: visitors for scope `visitor`, conversion events for
scope `event` (such as revenue per conversion; all conversions of the project if the metric names no event). `variance`
is the variance of one sample: p (1 - p) for `unique`; for the others the sample variance of the visitors' counts or
sums (scope `visitor`) or of the events' amounts (scope `event`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from optimizely_api.contract.times import format_time
from optimizely_api.services.results.numbers import quotient, without_noise
from optimizely_api.services.results.query.measurement import Measurement, Sums
from optimizely_api.services.results.query.past_looks import and_then, arms_over_looks, in_strata
from optimizely_api.services.results.query.questions import Metric, Question, Variation, to_time
from optimizely_api.services.results.statistics.inference import (
    ROUNDING,
    Arm,
    Kind,
    Moments,
    Verdict,
    judge,
    per_visitor,
)
from optimizely_api.services.results.statistics.tiers import tier_of
from optimizely_api.services.results.tables import ANY_EVENT, CELL_SUMS


@dataclass(frozen=True)
class Figures:
    """A metric in a variation: the figures in the response, and the arm for the statistical test."""

    value: int | float
    samples: int
    variance: float | None
    arm: Arm

    @property
    def rate(self) -> float | None:
        """`value` / `samples`; None without samples."""
        return quotient(self.value, self.samples) if self.samples else None


def compose_response(question: Question, measurement: Measurement, end: int) -> dict[str, Any] | None:
    """The response body, or None when the interval and the segment contain no visitor.

    `end` is the end of the period that the results cover, in milliseconds (`versions.results_end`).
    """
    total = sum(measurement.visitors[variation.variation_id] for variation in question.reached)
    if not total:
        return None
    start = question.interval.start
    if start is None:
        start = measurement.first_entered or 0
    return {
        "experiment_id": question.experiment_id,
        "start_time": format_time(to_time(start)),
        "end_time": format_time(to_time(end)),
        "is_stale": False,
        "stats_config": question.stats_config,
        "reach": _reach(question, measurement, total),
        "metrics": _metrics(question, measurement),
    }


def _reach(question: Question, measurement: Measurement, total: int) -> dict[str, Any]:
    baseline = measurement.visitors[question.baseline.variation_id]
    return {
        "total_count": total,
        "baseline_count": baseline,
        "baseline_reach": baseline / total,
        "treatment_count": total - baseline,
        "treatment_reach": (total - baseline) / total,
        "variations": {
            variation.text_id: {
                "variation_id": variation.text_id,
                "name": variation.name,
                "count": measurement.visitors[variation.variation_id],
                "variation_reach": measurement.visitors[variation.variation_id] / total,
            }
            for variation in question.reached
        },
    }


def _metrics(question: Question, measurement: Measurement) -> list[dict[str, Any]]:
    # By position: a question may contain the same metric twice.
    figures = {
        position: _figures_by_variation(question, metric, measurement)
        for position, metric in enumerate(question.metrics)
        if metric.is_computed
    }
    verdicts = _verdicts(question, figures)
    return [
        _metric(question, metric, figures[position], verdicts[position])
        if metric.is_computed
        else {**_definition(metric), "results": {}, "conclusion": {}}
        for position, metric in enumerate(question.metrics)
    ]


def _figures_by_variation(
    question: Question, metric: Metric, measurement: Measurement
) -> dict[Variation, Figures]:
    """The metric's figures over all strata, with the arms of the single strata for the test."""
    arms_by_stratum = [_tested_arms(question, metric, stratum) for stratum in measurement.strata]
    return {
        variation: replace(
            figures_of(measurement, metric, variation),
            arm=in_strata([arms[variation] for arms in arms_by_stratum]),
        )
        for variation in question.variations
    }


def _verdicts(
    question: Question, figures: dict[int, dict[Variation, Figures]]
) -> dict[int, dict[Variation, Verdict]]:
    """The verdict on each treatment, by the metric's position; all comparisons are judged together."""
    comparisons = [(position, treatment) for position in figures for treatment in question.treatments]
    arms = [
        (figures[position][question.baseline].arm, figures[position][treatment].arm)
        for position, treatment in comparisons
    ]
    tiers = [tier_of(position) for position, _ in comparisons]
    verdicts: dict[int, dict[Variation, Verdict]] = {position: {} for position in figures}
    judged = judge(arms, question.stats_config["confidence_level"], tiers)
    for (position, treatment), verdict in zip(comparisons, judged, strict=True):
        verdicts[position][treatment] = verdict
    return verdicts


def _tested_arms(question: Question, metric: Metric, stratum: Measurement) -> dict[Variation, Arm]:
    """The arm of each variation for the test of a metric within a stratum: over all looks if the history is known.

    The history is never known for a metric with a window: `growth` has no windows.
    """
    present = {variation: figures_of(stratum, metric, variation).arm for variation in question.variations}
    if stratum.history is None or metric.window:
        return present
    past = arms_over_looks(stratum.history, metric, question.variations)
    if not stratum.history.ends_early:
        return past
    return {variation: and_then(arm, present[variation]) for variation, arm in past.items()}


def _definition(metric: Metric) -> dict[str, Any]:
    return {"scope": metric.scope, "winning_direction": metric.winning_direction, **metric.given}


def _sums(measurement: Measurement, metric: Metric, variation: Variation) -> Sums:
    key = (variation.variation_id, metric.event_id or ANY_EVENT, metric.window or 0)
    return measurement.sums.get(key) or dict.fromkeys(CELL_SUMS, 0.0)


def figures_of(measurement: Measurement, metric: Metric, variation: Variation) -> Figures:
    """The figures of a metric in a variation."""
    visitors, sums = measurement.visitors[variation.variation_id], _sums(measurement, metric, variation)
    x, xx, _, squares = _numerator(metric, sums)
    arm, value = arm_of(measurement, metric, variation), without_noise(x, math.sqrt(squares))
    samples = int(sums["events"]) if metric.scope == "event" else visitors
    if metric.aggregator == "unique":
        return Figures(value, samples, _proportion_variance(x, samples), arm)
    squares_of_samples = squares if metric.scope == "event" else xx
    return Figures(value, samples, _sample_variance(samples, x, squares_of_samples), arm)


def arm_of(measurement: Measurement, metric: Metric, variation: Variation) -> Arm:
    """The arm for the statistical test; the measurement's numbers may be arrays."""
    visitors, sums = measurement.visitors[variation.variation_id], _sums(measurement, metric, variation)
    x, xx, xy, _ = _numerator(metric, sums)
    if metric.scope == "event":
        moments = Moments(visitors, sums["converting"], x, xx, sums["events"], sums["events_events"], xy)
        return _arm(metric, moments, "ratio")
    moments = per_visitor(visitors, sums["converting"], x, xx)
    return _arm(metric, moments, "proportion" if metric.aggregator == "unique" else "mean")


def _numerator(metric: Metric, sums: Sums) -> tuple[float, float, float, float]:
    """Sums of x, x squared and x times events over visitors, and of x squared over events."""
    if metric.aggregator == "unique":
        return sums["converting"], sums["converting"], sums["events"], sums["converting"]
    if metric.aggregator == "count":
        return sums["events"], sums["events_events"], sums["events_events"], sums["events"]
    name = metric.field
    return sums[f"{name}"], sums[f"{name}_{name}"], sums[f"{name}_events"], sums[f"{name}_squares"]


def _arm(metric: Metric, moments: Moments, kind: Kind) -> Arm:
    return Arm(moments, kind, metric.winning_direction)


def _proportion_variance(successes: float, samples: int) -> float | None:
    if not samples:
        return None
    share = successes / samples
    return share * (1 - share)


def _sample_variance(samples: int, total: float, squares: float) -> float | None:
    if samples < 2:
        return 0.0 if samples else None
    variance = (squares - total * total / samples) / (samples - 1)
    # A smaller difference of squares is a rounding error: all samples are equal.
    return variance if variance > ROUNDING * squares / samples else 0.0


def _metric(
    question: Question,
    metric: Metric,
    figures: dict[Variation, Figures],
    verdicts: dict[Variation, Verdict],
) -> dict[str, Any]:
    conclusive, results = most_conclusive(verdicts), {}
    for variation in question.variations:
        result = variation_result(question, variation, figures[variation])
        if variation in verdicts:
            result |= comparison_result(
                question, figures[variation], verdicts[variation], variation == conclusive
            )
        results[variation.key] = result
    return {**_definition(metric), "results": results, "conclusion": _conclusion(verdicts)}


def most_conclusive(verdicts: dict[Variation, Verdict]) -> Variation | None:
    """The treatment with the smallest p-value; None while there is none below 1."""
    treatment = min(verdicts, key=lambda treatment: verdicts[treatment].p_value, default=None)
    return None if treatment is None or verdicts[treatment].p_value >= 1 else treatment


def variation_result(question: Question, variation: Variation, figures: Figures) -> dict[str, Any]:
    result = {
        "experiment_id": question.experiment_id,
        "variation_id": variation.text_id,
        "name": variation.name,
        "level": "experiment" if variation.is_holdback else "variation",
        "is_baseline": variation == question.baseline,
        "value": figures.value,
        "samples": figures.samples,
    }
    if figures.rate is not None:
        result["rate"] = figures.rate
    if figures.variance is not None:
        result["variance"] = figures.variance
    return result


def comparison_result(
    question: Question, figures: Figures, verdict: Verdict, is_most_conclusive: bool
) -> dict[str, Any]:
    lift: dict[str, Any] = {
        "is_significant": verdict.is_significant,
        "significance": verdict.significance,
        "lift_status": verdict.status,
        "is_most_conclusive": is_most_conclusive,
    }
    if question.stats_config["difference_type"] == "absolute":
        lift |= _estimate(verdict.difference, verdict.difference_interval, 1)
    else:
        lift |= _estimate(verdict.relative, verdict.relative_interval, 1)
    if verdict.visitors_remaining is not None:
        lift["visitors_remaining"] = verdict.visitors_remaining
    result: dict[str, Any] = {"lift": lift}
    # The gain over the baseline's rate with the same number of samples.
    if increase := _estimate(verdict.difference, verdict.difference_interval, figures.samples):
        result["total_increase"] = increase
    return result


def _estimate(value: float | None, interval: tuple[float, float] | None, factor: int) -> dict[str, Any]:
    estimate: dict[str, Any] = {}
    if value is not None and math.isfinite(value):
        estimate["value"] = value * factor
        if interval is not None and all(map(math.isfinite, interval)):
            estimate["confidence_interval"] = [bound * factor for bound in interval]
    return estimate


def _conclusion(verdicts: dict[Variation, Verdict]) -> dict[str, str]:
    """The winner (the significantly best variation) and the loser (the significantly worst), if there is one."""
    conclusion = {}
    for name, status in (("winner", "better"), ("loser", "worse")):
        gains = {
            variation: abs(verdict.difference or 0.0)
            for variation, verdict in verdicts.items()
            if verdict.status == status
        }
        if gains:
            conclusion[name] = max(gains, key=lambda variation: gains[variation]).text_id
    return conclusion
