"""Why the modes differ: what is asked, one worker under four requests, and how many requests its slots can carry."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optimizely_api.comparison.report.axes import linear
from optimizely_api.comparison.report.drawing import (
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Bar,
    Drawing,
    Path,
    Text,
    bars,
    horizontal,
)
from optimizely_api.comparison.report.pictures import BELOW, Picture, Table
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import rounded
from optimizely_api.comparison.report.table import MISSING

# The calls of the composite by the first part of their paths, in their order.
CALLS = {"experiments": "experiment", "layers": "campaign", "projects": "project", "results": "results"}
LANE = 10
MILLISECONDS = 1000

Call = Mapping[str, Any]


def asked(report: Report) -> Picture | None:
    """The composite's calls in time, if the options say how long each takes."""
    options = report["options"]
    if options["upstreams"] != "stub" or options["fan_out"]:
        return None
    delay = options["delay_ms"]
    first, *others = CALLS
    times = {first: (0.0, delay), **dict.fromkeys(others, (delay, 2 * delay))}
    drawing = Drawing()
    axis = linear("time, ms", [2 * delay], 76, WIDTH - RIGHT)
    for number, (name, (begin, end)) in enumerate(times.items()):
        y = 6 + number * 24
        drawing.add(Text("label", 2, y + 13, CALLS[name]))
        drawing.add(*bars([[Bar(css=f"call {_css(name)}", start=begin, end=end)]], axis, y, 19))
    bottom = 6 + len(times) * 24
    drawing.add(*horizontal(axis, bottom))
    drawing.height = bottom + BELOW
    together = ", ".join(CALLS[name] for name in others)
    return Picture(
        name="asked",
        title="The upstream calls of one request",
        description=(
            f"Four bars over time. {CALLS[first]}: from 0 to {delay:g} ms. {together}: all three from {delay:g} to "
            f"{2 * delay:g} ms, because they need the experiment first."
        ),
        note="",
        drawing=drawing,
        table=[],
    )


def timelines(report: Report) -> list[Picture]:
    """One worker of each mode under four requests at once, as the upstreams saw its calls."""
    return [_timeline(report["modes"][trace["mode"]]["title"], trace) for trace in report["traces"]]


def _timeline(title: str, trace: Mapping[str, Any]) -> Picture:
    requests = trace["requests"]
    drawing = Drawing()
    drawing.add(*_legend(LINE))
    ends = [request["end"] * MILLISECONDS for request in requests]
    axis = linear("time, ms", ends, LEFT - 20, WIDTH - RIGHT)
    top = 2.0 * LINE
    for number, request in enumerate(requests, start=1):
        lanes = lanes_of(_ended(request))
        height = max(3, len(lanes)) * LANE
        whole = Bar(css="request", start=request["start"] * MILLISECONDS, end=request["end"] * MILLISECONDS)
        drawing.add(Text("label", 4, top + height / 2 + 4, str(number)))
        drawing.add(*bars([[whole]], axis, top, height))
        drawing.add(*bars([[_bar(call) for call in lane] for lane in lanes], axis, top, LANE))
        top += height + 6
    drawing.add(*horizontal(axis, top))
    drawing.height = top + BELOW
    together = (
        f"At most {most_together(requests)} of the {len(requests)} requests had upstream calls under way at the same "
        f"moment; the last response came after {max(ends):,.0f} ms."
    )
    return Picture(
        name=f"timeline-{trace['mode']}",
        title=f"One worker, {len(requests)} requests: {title}",
        description=(
            f"{len(requests)} requests were sent together; responses came after "
            f"{', '.join(f'{end:,.0f}' for end in ends)} ms. {together}"
        ),
        note=together,
        drawing=drawing,
        table=[
            ["request", "call", "from", "to"],
            *(
                [str(number), _name(call), _ms(call["begin"]), _ms(call["end"])]
                for number, request in enumerate(requests, start=1)
                for call in _ended(request)
            ),
        ],
    )


def slots(report: Report) -> Table:
    """Little's law for each mode whose requests hold a slot, beside its measured highest rate; [] without any."""
    body = [
        [
            report["modes"][mode]["title"],
            f"{law['slots']:,}",
            f"{law['seconds'] * MILLISECONDS:.0f} ms",
            f"{rounded(law['rate'], 2):g}/s",
            report["summary"]["modes"][mode]["highest_rate_text"] or MISSING,
        ]
        for mode, law in report["summary"]["slots"].items()
    ]
    head = ["", "slots", "median time of a request", "slots / time", "measured highest rate"]
    return [head, *body] if body else []


def _legend(y: float) -> list[Path | Text]:
    marks: list[Path | Text] = []
    x = 4.0
    for name, words in CALLS.items():
        marks.append(Path(f"call {_css(name)}", f"M{x:g} {y - 9:g}h10v10h-10z"))
        marks.append(Text("label", x + 14, y, words))
        x += 32 + 6.2 * len(words)
    return marks


def lanes_of(calls: Iterable[Call]) -> list[list[Call]]:
    """The calls in as few lanes as they need so that none covers another."""
    lanes: list[list[Call]] = []
    for call in sorted(calls, key=lambda call: float(call["begin"])):
        free = next((lane for lane in lanes if lane[-1]["end"] <= call["begin"]), None)
        if free is None:
            lanes.append([call])
        else:
            free.append(call)
    return lanes


def most_together(requests: Sequence[Mapping[str, Any]]) -> int:
    """The greatest number of requests that had a call under way at the same moment."""
    begins = [call["begin"] for request in requests for call in _ended(request)]
    return max((sum(_is_waiting(request, moment) for request in requests) for moment in begins), default=0)


def _is_waiting(request: Mapping[str, Any], moment: float) -> bool:
    return any(call["begin"] <= moment < call["end"] for call in _ended(request))


def _ended(request: Mapping[str, Any]) -> list[Call]:
    """The calls that had a response."""
    return [call for call in request["calls"] if call["end"] is not None]


def _bar(call: Call) -> Bar:
    return Bar(
        css=f"call {_css(_kind(call))}", start=call["begin"] * MILLISECONDS, end=call["end"] * MILLISECONDS
    )


def _kind(call: Call) -> str:
    kind: str = call["path"].strip("/").partition("/")[0]
    return kind


def _name(call: Call) -> str:
    return CALLS.get(_kind(call), _kind(call))


def _css(kind: str) -> str:
    return f"call-{kind}" if kind in CALLS else "call-other"


def _ms(seconds: float) -> str:
    return f"{seconds * MILLISECONDS:.0f} ms"
