"""Why the modes differ: the calls of a request in time, four requests on one worker, and Little's law."""

from optimizely_api.comparison.report.drawing import Path
from optimizely_api.comparison.report.explanation import asked, lanes_of, most_together, slots, timelines
from tests.comparison.known_report import known_report


def call(begin, end, path="/results/1"):
    return {"service": "results", "path": path, "begin": begin, "end": end}


def request(*calls, end=0.2):
    return {"start": 0.0, "end": end, "status": 200, "calls": list(calls)}


def traced(*requests):
    return known_report(traces=[{"mode": "threads", "requests": list(requests)}])


def test_what_was_asked_is_one_call_and_three_after_it():
    picture = asked(known_report())
    assert "experiment: from 0 to 50 ms" in picture.description
    assert "campaign, project, results: all three from 50 to 100 ms" in picture.description


def test_what_was_asked_is_not_drawn_where_nobody_knows_how_long_a_call_takes():
    report = known_report()
    for changed in ({"upstreams": "real"}, {"fan_out": 10}):
        assert asked({**report, "options": {**report["options"], **changed}}) is None


def test_calls_at_the_same_time_are_drawn_below_each_other():
    first, second, third = call(0.0, 0.1), call(0.05, 0.2), call(0.1, 0.2)
    assert lanes_of([third, first, second]) == [[first, third], [second]]


def test_a_timeline_says_how_many_requests_waited_for_upstreams_at_once():
    after_each_other = [request(call(0.0, 0.1)), request(call(0.1, 0.2))]
    together = [request(call(0.0, 0.1)), request(call(0.05, 0.2))]
    assert (most_together(after_each_other), most_together(together)) == (1, 2)
    (picture,) = timelines(traced(*together))
    assert picture.note == (
        "At most 2 of the 2 requests had upstream calls under way at the same moment; "
        "the last response came after 200 ms."
    )
    assert picture.note in picture.description


def test_a_timeline_draws_every_call_that_ended_in_the_colour_of_its_service():
    (picture,) = timelines(traced(request(call(0.0, 0.1, "/layers/7"), call(0.1, None))))
    drawn = [mark.css for mark in picture.drawing.marks if isinstance(mark, Path)]
    assert drawn.count("call call-layers") == 2, "in the legend, and as a bar"
    assert drawn.count("call call-results") == 1
    assert picture.table[1:] == [["1", "campaign", "0 ms", "100 ms"]]


def test_littles_law_is_beside_the_measured_rate():
    assert slots(known_report())[2] == ["threads", "64", "100 ms", "640/s", "200/s (200 to 224)"]
