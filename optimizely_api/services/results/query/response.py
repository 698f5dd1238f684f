"""From a measurement to the answer of `POST /results/{experiment_id}`, in the shapes of the contract.

What cannot be said is left out: a rate without samples, a relative lift over a baseline of zero, an
interval without bounds. A metric of a kind that is not computed is repeated, with no results.

`value` is the metric's numerator and `samples` its denominator: visitors for scope `visitor`, conversion
events for scope `event` (revenue per conversion, say; all conversions of the project where the metric names
no event). `variance` is the variance of one sample: p (1 - p) for `unique`, the sample variance of the
visitors' counts or sums, or of the single events' amounts for scope `event`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from optimizely_api.services.http.responses import format_time
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
class _Figures:
    """A metric in a variation: what is shown of it, and what is inferred from."""

    value: int | float
    samples: int
    variance: float | None
    arm: Arm

    @property
    def rate(self) -> float | None:
        """Value by samples."""
        return quotient(self.value, self.samples) if self.samples else None


def compose_answer(question: Question, measurement: Measurement, until: int) -> dict[str, Any] | None:
    """The body of the answer, or None when no visitor lies in the interval and the segment.

    `until` is the moment that it is about, in milliseconds (`versions.answered_until`).
    """
    total = sum(measurement.visitors[variation.variation_id] for variation in question.variations)
    if not total:
        return None
    start = question.interval.start
    if start is None:
        start = measurement.first_entered or 0
    return {
        "experiment_id": question.experiment_id,
        "start_time": format_time(to_time(start)),
        "end_time": format_time(to_time(until)),
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
            str(variation.variation_id): {
                "variation_id": str(variation.variation_id),
                "name": variation.name,
                "count": measurement.visitors[variation.variation_id],
                "variation_reach": measurement.visitors[variation.variation_id] / total,
            }
            for variation in question.variations
        },
    }


def _metrics(question: Question, measurement: Measurement) -> list[dict[str, Any]]:
    computed = [metric for metric in question.metrics if metric.is_computed]
    figures = [
        {
            variation: _figures(
                metric, measurement.visitors[variation.variation_id], _sums(measurement, metric, variation)
            )
            for variation in question.variations
        }
        for metric in computed
    ]
    for metric, by_variation in zip(computed, figures, strict=True):
        tested = [_tested(question, metric, stratum) for stratum in measurement.strata]
        for variation, shown in by_variation.items():
            arms = [arms[variation] for arms in tested]
            by_variation[variation] = replace(shown, arm=in_strata(arms))
    pairs = [
        (by_variation[question.baseline].arm, by_variation[treatment].arm)
        for by_variation in figures
        for treatment in question.treatments
    ]
    tiers = [
        tier_of(position)
        for position, metric in enumerate(question.metrics)
        if metric.is_computed
        for _ in question.treatments
    ]
    verdicts = iter(judge(pairs, question.stats_config["confidence_level"], tiers))
    by_metric = iter(figures)
    return [
        _metric(
            question,
            metric,
            next(by_metric),
            {treatment: next(verdicts) for treatment in question.treatments},
        )
        if metric.is_computed
        else {**_definition(metric), "results": {}, "conclusion": {}}
        for metric in question.metrics
    ]


def _tested(question: Question, metric: Metric, stratum: Measurement) -> dict[Variation, Arm]:
    """What a metric of a stratum is judged by, in each variation: over the looks where they are known.

    The past of a metric with a window is not.
    """
    present = {
        variation: _figures(
            metric, stratum.visitors[variation.variation_id], _sums(stratum, metric, variation)
        ).arm
        for variation in question.variations
    }
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


def _figures(metric: Metric, visitors: int, sums: Sums) -> _Figures:
    x, xx, xy, squares = _numerator(metric, sums)
    value = without_noise(x, math.sqrt(squares))
    if metric.scope == "event":
        events = int(sums["events"])
        moments = Moments(visitors, sums["converting"], x, xx, events, sums["events_events"], xy)
        variance = (
            _proportion_variance(x, events)
            if metric.aggregator == "unique"
            else _sample_variance(events, x, squares)
        )
        return _Figures(value, events, variance, _arm(metric, moments, "ratio"))
    moments = per_visitor(visitors, sums["converting"], x, xx)
    if metric.aggregator == "unique":
        return _Figures(
            value, visitors, _proportion_variance(x, visitors), _arm(metric, moments, "proportion")
        )
    return _Figures(value, visitors, _sample_variance(visitors, x, xx), _arm(metric, moments, "mean"))


def _numerator(metric: Metric, sums: Sums) -> tuple[float, float, float, float]:
    """Sums over visitors of x, x squared and x times events, and over events of x squared."""
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
    # Below this, the difference of squares is rounding: all samples are alike.
    return variance if variance > ROUNDING * squares / samples else 0.0


def _metric(
    question: Question,
    metric: Metric,
    figures: dict[Variation, _Figures],
    verdicts: dict[Variation, Verdict],
) -> dict[str, Any]:
    most_conclusive = min(verdicts, key=lambda treatment: verdicts[treatment].p_value, default=None)
    if most_conclusive is not None and verdicts[most_conclusive].p_value >= 1:
        most_conclusive = None
    results = {}
    for variation in question.variations:
        result = _variation(question, variation, figures[variation])
        if variation in verdicts:
            result |= _comparison(
                question, figures[variation], verdicts[variation], variation == most_conclusive
            )
        results[str(variation.variation_id)] = result
    return {**_definition(metric), "results": results, "conclusion": _conclusion(verdicts)}


def _variation(question: Question, variation: Variation, figures: _Figures) -> dict[str, Any]:
    result = {
        "experiment_id": question.experiment_id,
        "variation_id": str(variation.variation_id),
        "name": variation.name,
        "level": "variation",
        "is_baseline": variation == question.baseline,
        "value": figures.value,
        "samples": figures.samples,
    }
    if figures.rate is not None:
        result["rate"] = figures.rate
    if figures.variance is not None:
        result["variance"] = figures.variance
    return result


def _comparison(
    question: Question, figures: _Figures, verdict: Verdict, is_most_conclusive: bool
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
    # What the variation brought beyond what the baseline's rate would have brought with as many samples.
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
    """The significantly best variation as the winner, the significantly worst as the loser."""
    conclusion = {}
    for name, status in (("winner", "better"), ("loser", "worse")):
        gains = {
            variation: abs(verdict.difference or 0.0)
            for variation, verdict in verdicts.items()
            if verdict.status == status
        }
        if gains:
            conclusion[name] = str(max(gains, key=lambda variation: gains[variation]).variation_id)
    return conclusion
