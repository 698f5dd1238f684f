"""What one sees in a chart, in words, by rule from the points and rows that are drawn."""

from collections.abc import Callable, Sequence

from optimizely_api.comparison.report.drawing import Curve, Point, Row

InWords = Callable[[float], str]


def of_curves(curves: Sequence[Curve], what: str, x_text: InWords, y_text: InWords) -> str:
    """Each curve's first, last and highest point."""
    parts = [part for each in curves if (part := _course(each, x_text, y_text))]
    count = "One line" if len(parts) == 1 else f"{len(parts)} lines"
    return f"{count}: {what}. {'. '.join(parts)}."


def _course(curve: Curve, x_text: InWords, y_text: InWords) -> str:
    measured = [(point.x, point.y) for point in curve.points if point.y is not None]
    if not measured:
        return ""
    texts = {y_text(y) for _, y in measured}
    if len(texts) == 1:
        return f"{curve.label}: {texts.pop()} throughout, from {x_text(measured[0][0])} to {x_text(measured[-1][0])}"
    # The first of the highest points that read alike.
    most = y_text(max(y for _, y in measured))
    highest = next(point for point in measured if y_text(point[1]) == most)
    ends = [f"begins with {y_text(measured[0][1])} at {x_text(measured[0][0])}"]
    if most not in (y_text(measured[0][1]), y_text(measured[-1][1])):
        ends.append(f"is highest with {most} at {x_text(highest[0])}")
    ends.append(f"ends with {y_text(measured[-1][1])} at {x_text(measured[-1][0])}")
    if most == y_text(measured[-1][1]) and highest[0] != measured[-1][0]:
        ends[-1] += f", its highest, first reached at {x_text(highest[0])}"
    return f"{curve.label}: {', '.join(ends)}"


def of_rows(rows: Sequence[Row], what: str) -> str:
    """Each row's text, the greatest figure first."""
    ordered = sorted(rows, key=lambda row: row.point.x, reverse=True)
    return f"{what}, the greatest first. {'; '.join(f'{row.label}: {row.text}' for row in ordered)}."


def requests_words(points: Sequence[Point]) -> str:
    """How many requests a chart's points stand on."""
    counts = [point.requests for point in points if point.requests is not None]
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    if least == most:
        return f"Each point is the outcome of {_requests(least)}."
    return f"A point is the outcome of {least:,} to {_requests(most)}."


def _requests(count: int) -> str:
    return f"{count:,} request" if count == 1 else f"{count:,} requests"
