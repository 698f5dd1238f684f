"""`compare --diff`: what changed from one report to the next by more than the spread."""

import json
import re

import pytest
from click.testing import CliRunner

from optimizely_api.comparison.command import compare
from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.report.difference import differences
from optimizely_api.comparison.report.trials import EQUAL
from tests.comparison.known_report import known_report, measured, search, tally, trial, trials


def steady(*medians):
    """A report in which asyncio answered at the equal rate in these times, one for each repetition."""
    made = [
        trial("asyncio", "steady", EQUAL, number, **measured(tally(120, latency_ms=ms), rate=6.0))
        for number, ms in enumerate(medians, 1)
    ]
    return known_report(trials=made)


def about(key, sentences):
    return [text for text in sentences if f", {key}:" in text]


def test_a_report_does_not_differ_from_itself():
    (said,) = differences(known_report(), known_report())
    assert re.fullmatch(r"\d\d figures did not change beyond their spread\.", said)


def test_intervals_that_lie_apart_are_a_change():
    (said,) = about(
        "steady_equal_p50_ms", differences(steady(100.0, 110.0, 120.0), steady(200.0, 210.0, 240.0))
    )
    assert said == (
        "asyncio, steady_equal_p50_ms: more, from 110 ms (100 ms to 120 ms) to 210 ms (200 ms to 240 ms)."
    )


@pytest.mark.parametrize(
    "medians",
    [(119.0, 200.0, 210.0), (121.0, 121.0, 121.0)],
    ids=["intervals overlap", "by less than a tenth"],
)
def test_less_than_the_spread_is_no_change(medians):
    assert not about("steady_equal_p50_ms", differences(steady(100.0, 115.0, 120.0), steady(*medians)))


def test_a_ratio_changes_with_its_rates():
    slower = [each for each in trials() if (each["mode"], each["scenario"]) != ("asyncio", "search")]
    slower += [search("asyncio", 1, 250.0), search("asyncio", 2, 250.0)]
    said = about("asyncio carries", differences(known_report(), known_report(trials=slower)))
    assert said[0].startswith(
        "multiprocessing, asyncio carries: less, from about 40 times (35 to 45) to about 25"
    )


def test_another_question_is_no_change_of_the_answer():
    other = known_report()
    other["options"] = {**other["options"], "delay_ms": 20.0}
    assert differences(known_report(), other)[0] == (
        "The two reports are not of the same comparison: delay_ms 50.0 and 20.0."
    )


def test_a_report_of_another_format_is_refused():
    with pytest.raises(CannotCompare, match="A report has format 2"):
        differences({"format": 2}, known_report())


def test_the_command_compares_two_files(tmp_path):
    paths = [tmp_path / name for name in ("old.json", "new.json")]
    for path, report in zip(paths, (steady(100.0), steady(200.0)), strict=True):
        path.write_text(json.dumps(report))
    done = CliRunner().invoke(compare, ["--diff", *map(str, paths)])
    assert done.exit_code == 0
    assert "steady_equal_p50_ms: more, from 100 ms to 200 ms" in " ".join(done.output.split())


def test_the_command_refuses_what_is_no_report(tmp_path):
    path = tmp_path / "old.json"
    path.write_text("no report")
    done = CliRunner().invoke(compare, ["--diff", str(path), str(path)])
    assert done.exit_code == 1
    assert "old.json is not JSON" in done.output
