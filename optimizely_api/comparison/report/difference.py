"""What differs between two reports of the same comparison by more than the spread of their figures. No IO."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.report.report import FORMAT, Report
from optimizely_api.comparison.report.statements import MORE, SAME, relation_of

# Options that do not change what is asked of the modes.
NOT_ASKED = frozenset({"modes", "scenarios", "repeat"})


def differences(old: Report, new: Report) -> list[str]:
    """Sentences: which options differ, which figures changed, and how many did not; raises CannotCompare.

    A figure changed if its two intervals, each from the least to the most of all repetitions, lie apart, and its two
    values are not within the spread of equal figures.
    """
    for report in (old, new):
        if report.get("format") != FORMAT:
            raise CannotCompare(
                f"A report has format {report.get('format')}; only format {FORMAT} can be compared."
            )
    sentences = [_options(old["options"], new["options"])]
    same = 0
    for title, key, before, after in _pairs(old, new):
        if changed := _changed(before, after):
            sentences.append(f"{title}, {key}: {changed}, from {before['text']} to {after['text']}.")
        else:
            same += 1
    sentences.append(f"{same} figures did not change beyond their spread.")
    return [sentence for sentence in sentences if sentence]


def _options(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    differ = [
        f"{name} {old.get(name)} and {new.get(name)}"
        for name in sorted({*old, *new} - NOT_ASKED)
        if old.get(name) != new.get(name)
    ]
    return f"The two reports are not of the same comparison: {', '.join(differ)}." if differ else ""


def _pairs(old: Report, new: Report) -> Iterator[tuple[str, str, Any, Any]]:
    """Each figure and ratio that both reports have: the mode's title, the figure's name, and both."""
    for name, row in new["summary"]["modes"].items():
        before = old["summary"]["modes"].get(name, {}).get("figures", {})
        for key, figure in row["figures"].items():
            if figure and before.get(key):
                yield row["title"], key, before[key], figure
        ratios = [_ratio(report["summary"]["comparisons"].get(name)) for report in (old, new)]
        if ratios[0] and ratios[1]:
            yield row["title"], "asyncio carries", *ratios


def _ratio(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None or comparison["ratio"] is None:
        return None
    return {**comparison, "value": comparison["ratio"]}


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """`more` or `less`, or `` if the figure did not change beyond its spread."""
    if old["value"] is None or new["value"] is None:
        return "changed" if old["text"] != new["text"] else ""
    relation = relation_of(new["value"], old["value"])
    lower, upper = (old, new) if relation == MORE else (new, old)
    apart = _most(lower) < upper["least"]
    return "" if relation == SAME or not apart else relation


def _most(figure: Mapping[str, Any]) -> float:
    return math.inf if figure["most"] is None else float(figure["most"])


__all__ = ["differences"]
