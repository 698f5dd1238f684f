"""What is written down: figures that follow from the measurements, a schema that holds, a page that is one file."""

import json
import re

import jsonschema_rs
import pytest
from rich.console import Console

from optimizely_api.comparison.report.arithmetic import NO_RESPONSE
from optimizely_api.comparison.report.captions import captions, headline, headline_figures, spread_words
from optimizely_api.comparison.report.charts import charts
from optimizely_api.comparison.report.page import page, write_page
from optimizely_api.comparison.report.statements import SMOKE_TEST, disturbed, plain_words
from optimizely_api.comparison.report.table import rich_table, rows
from optimizely_api.comparison.report.trials import EQUAL, OWN_SHARE
from tests.comparison.known_report import known_report, measured, modes, search, tally, trial, trials
from tests.comparison.report_schema import REPORT


@pytest.fixture(scope="module")
def report():
    return known_report()


def test_the_report_fits_its_schema(report):
    jsonschema_rs.validator_for(REPORT).validate(json.loads(json.dumps(report)))


def test_a_report_of_nothing_but_a_broken_off_mode_fits_too():
    whole = known_report(modes={"asyncio": modes()["asyncio"]}, trials=[], traces=[], interrupted=True)
    jsonschema_rs.validator_for(REPORT).validate(json.loads(json.dumps(whole)))
    assert "interrupted" in page(whole)


def test_the_summary_says_how_many_times_more_asyncio_carries(report):
    compared = report["summary"]["comparisons"]
    assert {name: each["ratio"] for name, each in compared.items()} == {"multiprocessing": 40, "threads": 2}
    assert compared["multiprocessing"]["text"] == "about 40 times (35 to 45)"


def test_a_single_repetition_has_no_ratio():
    once = [each for each in trials() if each["repetition"] == 1]
    compared = known_report(trials=once)["summary"]["comparisons"]["threads"]
    assert (compared["relation"], compared["ratio"]) == ("more", None)
    assert compared["why"] == "one repetition does not tell the spread"


def figures_of(report, mode):
    return report["summary"]["modes"][mode]["figures"]


def test_the_summary_has_the_share_of_5xx_and_p99(report):
    figures = figures_of(report, "multiprocessing")
    assert figures["ramp_error_share"]["value"] == 50 / 200
    assert figures["ramp_error_share"]["requests"] == 200
    assert figures["ramp_p99_ms"]["value"] == 5000
    assert figures_of(report, "asyncio")["ramp_error_share"]["value"] == 0


def test_a_figure_of_several_repetitions_is_their_median_with_the_extremes():
    more = [
        trial("asyncio", "steady", EQUAL, number, **measured(tally(120, latency_ms=ms), rate=6.0))
        for number, ms in ((2, 130.0), (3, 90.0))
    ]
    figure = figures_of(known_report(trials=trials() + more), "asyncio")["steady_equal_p50_ms"]
    assert figure["text"] == "100 ms (90 ms to 130 ms)"
    assert (figure["trials"], figure["requests"]) == (3, 360)


def test_too_few_requests_have_no_p99():
    few = [trial("asyncio", "steady", EQUAL, **measured(tally(99), rate=99.0))]
    assert few[0]["percentiles_ms"]["99"] is None
    assert few[0]["seconds"][0]["p99_ms"] is None
    assert figures_of(known_report(trials=few), "asyncio")["steady_equal_p99_ms"] is None


def test_repetitions_of_too_few_requests_have_one_p99_together():
    few = [
        trial("asyncio", "steady", EQUAL, number, **measured(tally(60, latency_ms=100.0 * number), rate=60.0))
        for number in (1, 2, 3)
    ]
    figure = figures_of(known_report(trials=few), "asyncio")["steady_equal_p99_ms"]
    assert (round(figure["value"]), figure["requests"], figure["trials"]) == (300, 180, 3)


def test_a_request_without_a_response_is_later_than_every_other():
    few = [
        trial("asyncio", "steady", EQUAL, number, **measured(tally(60, late=3), rate=63.0))
        for number in (1, 2)
    ]
    assert figures_of(known_report(trials=few), "asyncio")["steady_equal_p99_ms"] is None


def test_an_overload_without_recovery_says_so():
    lost = [{**each, "recovery_seconds": None} for each in trials() if each["scenario"] == "overload"]
    figures = figures_of(known_report(trials=lost), "asyncio")
    assert figures["overload_1.5_recovery_seconds"]["text"] == "not within 1 s"
    assert figures["overload_3_goodput"] is None


def test_littles_law_stands_beside_the_measured_rate(report):
    assert report["summary"]["slots"]["threads"]["slots"] == 2 * 32
    assert report["summary"]["slots"]["threads"]["rate"] == pytest.approx(640, rel=0.01)
    assert "asyncio" not in report["summary"]["slots"]
    said = " ".join(plain_words(report))
    assert "threads can hold 64 requests at once; at 100 ms each, Little's law allows 640/s" in said


def test_what_the_generator_could_not_offer_is_in_no_figure():
    unfit = measured(tally(10), rate=10.0) | {"not_fit": ["phase 0: too late"]}
    whole = known_report(trials=[trial("threads", "slow", OWN_SHARE, **unfit)])
    figures = figures_of(whole, "threads")
    assert (figures["slow_error_share"], figures["slow_p99_ms"]) == (None, None)
    assert whole["summary"]["left_out"] == [
        "threads, slow, repetition 1: the load generator fell behind: phase 0: too late",
        "threads, slow, repetition 1: it ended (`well again`) at 1.50 s, after the load, which ended at 1.00 s",
    ]


def test_the_table_has_a_column_per_mode_and_a_line_per_figure(report):
    table = {line[0]: line[1:] for line in rows(report)}
    assert table[""] == ["multiprocessing", "threads", "asyncio"]
    assert table["highest rate, no 5XX, p99 < 1 s"][0] == "10/s (10 to 11.2)"
    assert table["asyncio carries"] == ["about 40 times (35 to 45)", "about 2 times (1.7 to 2.3)", "-"]
    assert table["5XX or no response, load grows"] == ["25.0%", "0.0%", "0.0%"]
    assert "5XX or no response, restart" not in table, "nothing was measured"
    assert table["good responses at 1.5 x its limit"] == ["100/s", "100/s", "100/s"]


def test_the_table_fits_a_terminal(report):
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(rich_table(report))
    assert "multiprocessing" in captured.get()


def test_a_rate_that_may_be_higher_says_so():
    bound = {**search("asyncio", 1, 1234.5), "reached_limit": True, "lowest_failed": None}
    row = known_report(trials=[bound])["summary"]["modes"]["asyncio"]
    assert row["highest_rate_text"] == "≥ 1200/s"
    assert row["highest_rate_may_be_more"]


def test_every_chart_has_a_caption_with_figures(report):
    drawn = {chart.name: chart for chart in charts(report)}
    assert set(drawn) == {"ramp", "steady", "overload", "slow", "highest", "resources", "no_help"}
    assert all(chart.pictures and chart.caption and chart.title for chart in drawn.values())
    assert "multiprocessing loses its first request at 150/s" in drawn["ramp"].caption.parts
    assert "asyncio loses no request up to 150/s" in drawn["ramp"].caption.parts
    assert (
        "Asyncio carries about 40 times (35 to 45) the rate of multiprocessing"
        in drawn["highest"].caption.sentence
    )


def test_the_headline_has_the_ratio_with_its_interval(report):
    assert headline(report) == "asyncio carries about 40 times (35 to 45) the requests of multiprocessing"
    assert headline_figures(report) == (
        "400/s (400 to 448) against 10/s (10 to 11.2), without a 5XX and with a p99 under 1 s."
    )


def test_the_first_screen_counts_the_repetitions_that_were_measured(report):
    again = [{**each, "repetition": 2} for each in trials() if each["scenario"] == "ramp"]
    both, one = known_report(trials=trials() + again), known_report(trials=trials() + again[:1])
    assert spread_words(report) == "It was measured once, so there is no spread."
    assert spread_words(both).startswith("A point is the median of 2 repetitions")
    assert spread_words(one).startswith(
        "It was measured 2 times under multiprocessing and 1 times under asyncio;"
    )


def test_a_smoke_test_has_no_other_headline(report):
    quick = {**report, "options": {**report["options"], "quick": True}}
    assert (headline(quick), headline_figures(quick)) == (SMOKE_TEST, "")


def test_a_caption_counts_a_request_once_however_often_it_was_asked():
    asked = measured(tally(90, late=10), tally(10), rate=10.0) | {"errors": {NO_RESPONSE: 13}}
    whole = known_report(trials=[trial("threads", "slow", OWN_SHARE, **asked)])
    assert captions(whole)["slow"].parts == ["threads at 10/s lost 10 of 110 requests"]


def test_the_captions_name_no_figure_that_was_not_measured():
    whole = known_report(modes={"asyncio": {**modes()["asyncio"], "starts": []}}, trials=[])
    assert captions(whole) == {}
    assert charts(whole) == []


def test_the_page_is_one_file_that_asks_for_no_other(report, tmp_path):
    text = write_page(report, tmp_path).read_text()
    assert text.count("<svg ") == 18
    assert not re.search(r"src=|href=|url\(|@import", text)
    assert "<script" not in text


def test_the_page_says_plainly_where_asyncio_does_not_help(report):
    text = page(report)
    assert "One slow request alone took multiprocessing 560 ms (555 ms to 570 ms), threads 560 ms" in text
    assert "(550 ms at least is waiting for the upstreams)" in text
    assert "asyncio and threads do not differ by more than 10%" in text


def test_a_machine_with_other_things_to_do_is_reported():
    busy = trials()
    assert disturbed(known_report()) == []
    busy[-1]["usage"]["others_share"] = 0.4
    (said,) = disturbed(known_report(trials=busy))
    assert "Other programs took up to 40% of the processors" in said
    assert "idle machine" not in page(known_report(trials=busy))


def test_the_page_says_how_5xx_were_counted_and_how_to_repeat_it(report):
    text = page(report)
    assert "No balancer: 5XX are those answered" in text
    assert '<th scope="row">seed</th><td>1</td>' in text
    assert (
        f'<th scope="row">multiprocessing</th><td>growing load</td><td>{NO_RESPONSE}</td><td>50</td>' in text
    )


def test_what_is_measured_is_escaped_in_the_page():
    assert "<b>" not in page(known_report(command="optimizely-api compare '<b>'"))
