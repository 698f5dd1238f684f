"""Makes the response body of `POST /results/{experiment_id}/timeseries`, in the shapes of the contract.

It is the response of `POST /results/{experiment_id}` without `reach` and conclusions, where each result is a list of
points. The last point has the figures of that response; the others are those of an interval that ends at their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optimizely_api.contract.times import format_time
from optimizely_api.services.results.query.history import are_lasting_looks
from optimizely_api.services.results.query.measurement import Measurement
from optimizely_api.services.results.query.past_looks import arms_over_looks
from optimizely_api.services.results.query.points import Points
from optimizely_api.services.results.query.questions import Metric, Question, Variation, to_time
from optimizely_api.services.results.query.response import (
    arm_of,
    comparison_result,
    compose_response,
    figures_of,
    most_conclusive,
    variation_result,
)
from optimizely_api.services.results.statistics.inference import Arm, Verdict, compare_epochs
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.statistics.over_time import Course, Looks, judge_points
from optimizely_api.services.results.statistics.tiers import tier_of
from optimizely_api.services.results.tables import CELL_SUMS

OF_POINTS = ("value", "samples", "rate", "variance", "lift")


def compose_timeseries(
    question: Question,
    measurement: Measurement,
    points: Points,
    measured: Sequence[Measurement],
    end: int,
) -> dict[str, Any] | None:
    """The response body, or None when the interval and the segment contain no visitor.

    `measured` has the measurement of each stratum at the points (`timeseries.measure_points`).
    """
    body = compose_response(question, measurement, end)
    if body is None:
        return None
    del body["reach"]
    series = _Series(question, measurement, points, measured)
    for position, metric in enumerate(body["metrics"]):
        del metric["conclusion"]
        for variation in question.variations if metric["results"] else ():
            result = metric["results"][variation.key]
            last = {
                "time": body["end_time"],
                **{key: result[key] for key in OF_POINTS if key in result},
            }
            for key in (*OF_POINTS, "total_increase"):
                result.pop(key, None)
            result["timeseries"] = [*series.points_of(position, variation), last]
    return body


class _Series:
    """The points before the last, of every metric and variation; those before the first visitor are left out."""

    def __init__(
        self,
        question: Question,
        measurement: Measurement,
        points: Points,
        measured: Sequence[Measurement],
    ) -> None:
        self.question, self.strata, self.measured = question, measurement.strata, measured
        self.times = points.times
        self.looks = _looks(measurement, self.times)
        self.at_points = [_measurement_at(measured, number) for number in range(len(self.times))]
        ids = [variation.variation_id for variation in question.reached]
        self.begun = [
            number for number, one in enumerate(self.at_points) if any(one.visitors[each] for each in ids)
        ]
        self.verdicts = self._judge() if self.begun else {}

    def points_of(self, position: int, variation: Variation) -> list[dict[str, Any]]:
        """The points of a metric in a variation."""
        return [self._point(position, variation, number) for number in self.begun]

    def _point(self, position: int, variation: Variation, number: int) -> dict[str, Any]:
        figures = figures_of(self.at_points[number], self.question.metrics[position], variation)
        result = variation_result(self.question, variation, figures)
        verdicts = self.verdicts[position][number]
        if variation in verdicts:
            is_conclusive = variation == most_conclusive(verdicts)
            result |= comparison_result(self.question, figures, verdicts[variation], is_conclusive)
        time = format_time(to_time(self.times[number]))
        return {"time": time, **{key: result[key] for key in OF_POINTS if key in result}}

    def _judge(self) -> dict[int, list[dict[Variation, Verdict]]]:
        """{position of the metric: for each point, the verdict on each treatment}."""
        computed = {
            position: metric for position, metric in enumerate(self.question.metrics) if metric.is_computed
        }
        verdicts: dict[int, list[dict[Variation, Verdict]]] = {
            position: [{} for _ in self.times] for position in computed
        }
        comparisons = [
            (position, treatment) for position in computed for treatment in self.question.treatments
        ]
        courses: list[Course] = []
        for metric in computed.values():
            courses += self._courses(metric)
        tiers = [tier_of(position) for position, _ in comparisons]
        level = self.question.stats_config["confidence_level"]
        judged = judge_points(courses, self.looks, level, tiers)
        for (position, treatment), over_time in zip(comparisons, judged, strict=True):
            for at_point, verdict in zip(verdicts[position], over_time, strict=True):
                at_point[treatment] = verdict
        return verdicts

    def _courses(self, metric: Metric) -> list[Course]:
        """The course of each treatment."""
        baseline = self.question.baseline
        own = [
            {variation: arm_of(stratum, metric, variation) for variation in self.question.variations}
            for stratum in self.measured
        ]
        histories = [stratum.history for stratum in self.strata]
        # As for the present: `growth` has no windows.
        past = (
            None
            if metric.window
            else [
                arms_over_looks(history, metric, self.question.variations)
                for history in histories
                if history is not None
            ]
        )
        return [
            Course(
                _compare(past, baseline, treatment) if past else None,
                _compare(own, baseline, treatment),
                metric.winning_direction,
            )
            for treatment in self.question.treatments
        ]


def _compare(strata: Sequence[dict[Variation, Arm]], baseline: Variation, treatment: Variation) -> Any:
    baselines, treatments = (
        [moments for arms in strata for moments in arms[variation].by_epoch]
        for variation in (baseline, treatment)
    )
    return compare_epochs(baselines, treatments, strata[0][treatment].kind)


def _looks(measurement: Measurement, times: Sequence[int]) -> Looks:
    """Past looks are the ends of the days before a point's; a point after all activity has all days, and no own."""
    ends = np.array(times, int)
    history = measurement.strata[0].history
    if history is None:
        return Looks(np.zeros(0, bool), np.zeros(len(ends), int), np.ones(len(ends), bool))
    is_cut = measurement.last_activity_by_hour >= ends
    before = np.searchsorted(history.days, ends // DAY_MILLISECONDS)
    lasting = are_lasting_looks(np.arange(len(history.days)))
    return Looks(lasting, np.where(is_cut, before, len(history.days)), is_cut)


def _measurement_at(strata: Sequence[Measurement], number: int) -> Measurement:
    """The measurement of all strata at one point."""
    measurement = Measurement()
    for stratum in strata:
        for variation_id, visitors in stratum.visitors.items():
            measurement.visitors[variation_id] += int(visitors[number])
        for (variation_id, entity_id, window), sums in stratum.sums.items():
            row = (variation_id, entity_id, *(_number(sums[name], number) for name in CELL_SUMS))
            measurement.add_sums([row], window)
    return measurement


def _number(sums: Any, number: int) -> float:
    return float(sums[number]) if np.ndim(sums) else 0.0
