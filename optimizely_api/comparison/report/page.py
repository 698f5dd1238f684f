"""report.html: a single file with the charts inside, made from the template page.html.mako."""

import base64
from pathlib import Path

from mako.template import Template

from optimizely_api.comparison.report.charts import Chart, charts
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import SMOKE_TEST, disturbed, plain_words
from optimizely_api.comparison.report.table import rows
from optimizely_api.comparison.scenarios import TITLES

TEMPLATE = Path(__file__).with_name("page.html.mako")


def write_page(report: Report, folder: Path) -> Path:
    """Draw the charts and write report.html into the folder."""
    path = folder / "report.html"
    path.write_text(page(report, charts(report)), encoding="utf-8")
    return path


def page(report: Report, pictures: list[Chart]) -> str:
    # The filter h escapes every value; Mako escapes nothing by default.
    template = Template(filename=str(TEMPLATE), default_filters=["str", "h"], strict_undefined=True)  # noqa: S702
    text: str = template.render_unicode(
        report=report,
        options=report["options"],
        machine=report["machine"],
        smoke_test=SMOKE_TEST,
        disturbances=disturbed(report),
        table=rows(report),
        charts=pictures,
        base64=lambda png: base64.b64encode(png).decode(),
        plain_words=plain_words(report),
        watchdog=report["modes"].get("asyncio-blocked", {}).get("watchdog", {}),
        left_out=report["summary"]["left_out"],
        errors=_errors_by_class(report),
    )
    return text


def _errors_by_class(report: Report) -> list[tuple[str, str, str, int]]:
    """Rows of mode, scenario, class of 5XX and count."""
    return [
        (report["modes"][trial["mode"]]["title"], TITLES[trial["scenario"]], error_class, count)
        for trial in report["trials"]
        if not trial["refused"]
        for error_class, count in trial.get("errors", {}).items()
    ]
