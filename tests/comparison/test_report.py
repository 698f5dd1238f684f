"""What is written down: figures that follow from the measurements, a schema that holds, a page that is one file."""

import json
import re

import jsonschema_rs
import pytest
from rich.console import Console

from optimizely_api.comparison.report import report as reporting
from optimizely_api.comparison.report.arithmetic import NO_RESPONSE
from optimizely_api.comparison.report.captions import captions
from optimizely_api.comparison.report.charts import charts, cumulated
from optimizely_api.comparison.report.page import page, write_page
from optimizely_api.comparison.report.statements import disturbed
from optimizely_api.comparison.report.table import rich_table, rows
from optimizely_api.comparison.rig.modes import MODES
from tests.comparison.known_report import known_report, measured, tally
from tests.comparison.report_schema import REPORT

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def report():
    return known_report()


def test_the_report_fits_its_schema(report):
    jsonschema_rs.validator_for(REPORT).validate(json.loads(json.dumps(report)))


def test_a_report_of_nothing_but_a_broken_off_mode_fits_too():
    broken = {"asyncio": {"title": "asyncio", "start_seconds": 2.0}}
    whole = known_report(modes=broken, summary=reporting.summary(broken), interrupted=True)
    jsonschema_rs.validator_for(REPORT).validate(json.loads(json.dumps(whole)))
    assert "interrupted" in page(whole, charts(whole))


def test_the_summary_says_how_many_times_more_asyncio_carries(report):
    compared = report["summary"]["comparisons"]
    assert {name: each["ratio"] for name, each in compared.items()} == {"multiprocessing": 40, "threads": 2}


def test_the_summary_has_the_share_of_5xx_and_p99(report):
    row = report["summary"]["modes"]["multiprocessing"]
    assert row["ramp_error_share"] == 50 / 200
    assert row["ramp_p99_ms"] == 5000
    assert report["summary"]["modes"]["asyncio"]["ramp_error_share"] == 0


def test_what_the_generator_could_not_offer_is_in_no_figure():
    modes = known_report()["modes"]
    modes["threads"]["slow"] = measured(tally(10), rate=10.0) | {"not_fit": ["phase 0: too late"]}
    row = reporting.summary(modes)["modes"]["threads"]
    assert (row["slow_error_share"], row["slow_p99_ms"]) == (None, None)
    assert reporting.summary(modes)["left_out"] == [
        "threads, slow: the load generator fell behind: phase 0: too late",
        "threads, slow: it ended (`well again`) at 1.50 s, after the load, which ended at 1.00 s",
    ]


def test_the_table_has_a_column_per_mode_and_a_line_per_figure(report):
    table = {line[0]: line[1:] for line in rows(report)}
    assert table[""] == ["multiprocessing", "threads", "asyncio"]
    assert table["highest rate, no 5XX, p99 < 1 s"] == ["10/s", "200/s", "400/s"]
    assert table["asyncio carries"] == ["about 40 times", "about 2 times", "-"]
    assert table["5XX or no response, load grows"] == ["25.0%", "0.0%", "0.0%"]
    assert table["5XX or no response, restart"] == ["-", "-", "-"]


def test_the_table_fits_a_terminal(report):
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(rich_table(report))
    assert "multiprocessing" in captured.get()


def test_a_rate_that_may_be_higher_says_so():
    modes = known_report()["modes"]
    modes["asyncio"]["search"]["reached_limit"] = True
    modes["asyncio"]["search"]["highest_rate"] = 1234.5
    assert reporting.summary(modes)["modes"]["asyncio"]["highest_rate_text"] == "≥ 1200/s"


def test_every_chart_has_a_caption_with_figures(report):
    drawn = {chart.name: chart for chart in charts(report)}
    assert set(drawn) == {"ramp", "slow", "distribution", "highest", "resources", "no_help"}
    assert all(chart.png.startswith(PNG) and chart.caption and chart.title for chart in drawn.values())
    assert "multiprocessing has its first failure at 150/s, and 25.0% in all" in drawn["ramp"].caption
    assert (
        "Asyncio carries about 40 times the rate of multiprocessing (400/s against 10/s)"
        in drawn["highest"].caption
    )


def test_a_caption_counts_a_request_once_however_often_it_was_asked():
    modes = known_report()["modes"]
    modes["threads"]["slow"] = measured(tally(90, late=10), tally(10), rate=10.0) | {
        "errors": {NO_RESPONSE: 13}
    }
    assert "threads at 10/s: 10 of 110 requests" in captions(known_report(modes=modes))["slow"]


def test_no_chart_and_no_caption_shows_what_the_generator_did_not_keep():
    modes = known_report()["modes"]
    modes["threads"]["ramp"]["not_fit"] = ["phase 1: too late"]
    modes["threads"]["ramp"]["seconds"][1]["fit"] = False
    said = captions(known_report(modes=modes))
    assert "threads has no failure up to 50/s, where the load generator fell behind" in said["ramp"]
    assert "threads" not in said["distribution"]


def test_the_captions_name_no_figure_that_was_not_measured():
    broken = {"asyncio": {"title": "asyncio"}}
    whole = known_report(modes=broken, summary=reporting.summary(broken))
    assert "restart" not in captions(whole)
    assert charts(whole) == []


def test_modes_differ_in_colour_marker_and_line():
    from optimizely_api.comparison.report.charts import STYLES

    assert set(STYLES) == set(MODES)
    for part in ("colour", "marker"):
        assert len({getattr(style, part) for style in STYLES.values()}) == len(MODES)


def test_the_curve_of_latencies_ends_at_the_share_that_was_well_answered():
    assert cumulated([(100.0, 50), (200.0, 25)], 100) == ([100.0, 200.0], [50.0, 75.0])


def test_the_page_is_one_file_that_asks_for_no_other(report, tmp_path):
    text = write_page(report, tmp_path).read_text()
    assert text.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    assert "<script" not in text


def test_the_page_says_plainly_where_asyncio_does_not_help(report):
    text = page(report, [])
    assert "One slow request alone took multiprocessing 560 ms, threads 560 ms" in text
    assert "(550 ms at least is waiting for the upstreams)" in text
    assert "asyncio and threads do not differ by more than 10%" in text


def test_a_machine_with_other_things_to_do_is_reported():
    modes = known_report()["modes"]
    assert disturbed(known_report()) == []
    modes["asyncio"]["ramp"]["usage"]["others_share"] = 0.4
    (said,) = disturbed(known_report(modes=modes))
    assert "Other programs took up to 40% of the processors" in said
    assert "idle machine" not in page(known_report(modes=modes), [])


def test_the_page_says_how_5xx_were_counted_and_how_to_repeat_it(report):
    text = page(report, [])
    assert "No balancer: 5XX are those answered" in text
    assert "seed = 1" in text
    assert f"<td>multiprocessing</td><td>growing load</td><td>{NO_RESPONSE}</td><td>50</td>" in text


def test_what_is_measured_is_escaped_in_the_page():
    assert "<b>" not in page(known_report(command="optimizely-api compare '<b>'"), [])
