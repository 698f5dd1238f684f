"""No caption, alt text or chart contradicts the figures of its report, whatever was measured: generated comparisons."""

import re
from typing import Any

from hypothesis import HealthCheck, given, settings

from optimizely_api.comparison.report.captions import AFTER, BEFORE, captions, headline, headline_figures
from optimizely_api.comparison.report.charts import charts, first_pair
from optimizely_api.comparison.report.drawing import Text
from optimizely_api.comparison.report.pictures import Picture
from optimizely_api.comparison.report.statements import SMOKE_TEST
from optimizely_api.comparison.report.trials import stated
from tests.comparison.generated_reports import RESULT_SETS, comparisons_made

Report = dict[str, Any]


def assert_headline_holds(report: Report) -> None:
    """It quotes the ratio with its interval if there is one, and no digit otherwise."""
    said, compared = headline(report), report["summary"]["comparisons"].get(BEFORE)
    if report["options"]["quick"]:
        assert (said, headline_figures(report)) == (SMOKE_TEST, "")
    elif compared is None or compared["ratio"] is None:
        assert not re.search(r"\d", said)
    else:
        assert said == f"asyncio carries {compared['text']} the requests of multiprocessing"
    if compared and not report["options"]["quick"]:
        assert (" more " in said) is (compared["relation"] == "more" and compared["ratio"] is None)
        assert (" less " in said) is (compared["relation"] == "less" and compared["ratio"] is None)


def assert_first_failures_hold(report: Report) -> None:
    parts = captions(report)["ramp"].parts if "ramp" in captions(report) else ()
    for mode, description in report["modes"].items():
        seconds = [second for trial in stated(report["trials"], mode, "ramp") for second in trial["seconds"]]
        said = [part.removeprefix(description["title"]) for part in parts]
        said = [part for part in said if part.startswith(" loses")]
        lost = sorted(second["rate"] for second in seconds if second["lost"])
        if not seconds:
            assert f"{description['title']} loses" not in " ".join(parts)
        elif lost:
            assert f" loses its first request at {lost[0]:.0f}/s" in said
        else:
            assert f" loses no request up to {max(each['rate'] for each in seconds):.0f}/s" in said


def parts_of(picture: Picture) -> dict[str, str]:
    """The words of the alt text on each mode."""
    parts = re.split(r"[.;] ", picture.description)
    return dict(part.split(": ", 1) for part in parts if ": " in part and not part.endswith("line"))


def assert_alt_text_holds(picture: Picture) -> None:
    """It names the modes that are drawn, and only figures that its table has."""
    head, *body = picture.table
    labels = {line[0] for line in body}
    for label in labels:
        figures = {cell for line in body if line[0] == label for cell in line[1:3]}
        measured = [line for line in body if line[0] == label and line[2] != "-"]
        (said,) = re.findall(
            rf"(?:^|[.;] ){re.escape(label)}: (.*?)(?=\.$|\. [a-z]+[^.]*: |; )", picture.description
        )
        if "requests" in head[:3]:
            assert said == measured[0][1]
            continue
        for number in re.findall(r"(?:< |> )?[\d.,]*\d(?:%|/s| ms| s|)", said):
            assert number.strip() in figures, (number, said)
        assert said.count(measured[0][2]) >= 1
        assert said.count(measured[-1][2]) >= 1


def assert_drawn(report: Report) -> None:
    """A mode is in the charts of a scenario if a trial of it may be stated, and in no other case."""
    drawn = {picture.name: picture for chart in charts(report) for picture in chart.pictures}
    for scenario, name in (("ramp", "ramp-lost"), ("slow", "slow-lost"), ("restart", "restart-lost")):
        titles = {
            description["title"]
            for mode, description in report["modes"].items()
            if stated(report["trials"], mode, scenario)
        }
        picture = drawn.get(name)
        assert {line[0] for line in picture.table[1:]} == titles if picture else not titles
    pair = all(mode in report["modes"] and stated(report["trials"], mode, "ramp") for mode in (BEFORE, AFTER))
    assert len(first_pair(report)) == (2 if pair else 0)


@settings(max_examples=RESULT_SETS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(comparisons_made())
def test_no_caption_and_no_alt_text_contradicts_its_figures(report):
    assert_headline_holds(report)
    assert_first_failures_hold(report)
    assert_drawn(report)
    for chart in charts(report):
        assert chart.caption
        for picture in chart.pictures:
            assert_alt_text_holds(picture)
            assert all(mark.text for mark in picture.drawing.marks if isinstance(mark, Text))
