"""The report that is kept in docs/: whole, with its page, and quoted by the README as it is."""

import json

import jsonschema_rs
import pytest

from optimizely_api.comparison.report.page import page
from tests.comparison.known_report import known_report
from tests.comparison.publish import BEGIN, END, KEPT, README, publish, section, why_not, with_section
from tests.comparison.report_schema import REPORT


@pytest.fixture(scope="module")
def kept():
    return json.loads((KEPT / "report.json").read_text(encoding="utf-8"))


def test_the_readme_quotes_the_report_that_is_kept(kept):
    readme = README.read_text(encoding="utf-8")
    assert with_section(readme, kept) == readme


def test_the_page_that_is_kept_is_made_of_these_figures(kept):
    assert (KEPT / "report.html").read_text(encoding="utf-8") == page(kept)


def test_the_report_that_is_kept_is_whole_and_fits_the_schema(kept):
    assert why_not(kept) == ""
    jsonschema_rs.validator_for(REPORT).validate(kept)


def test_the_section_is_replaced_and_nothing_else():
    readme = f"before\n{BEGIN}old\n{END}after\n"
    report = known_report()
    assert with_section(readme, report) == f"before\n{BEGIN}{section(report)}{END}after\n"
    with pytest.raises(ValueError, match="has no"):
        with_section("a README without the marks", report)


def test_a_report_that_is_not_whole_is_not_kept(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(known_report(interrupted=True)))
    before = README.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="not of a whole comparison"):
        publish(tmp_path)
    assert README.read_text(encoding="utf-8") == before
