"""report.html: a single file with the charts inside, made from the template page.html.mako."""

from datetime import datetime
from pathlib import Path

from mako.lookup import TemplateLookup

from optimizely_api.comparison.report.captions import headline, headline_figures, spread_words
from optimizely_api.comparison.report.charts import charts, first_pair
from optimizely_api.comparison.report.explanation import asked, slots, timelines
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import disturbed, slots_words
from optimizely_api.comparison.report.styles import DARK, LIGHT, STYLES, css_class
from optimizely_api.comparison.report.table import rows
from optimizely_api.comparison.scenarios import TITLES


def write_page(report: Report, folder: Path) -> Path:
    """Draw the charts and write report.html into the folder."""
    path = folder / "report.html"
    path.write_text(page(report), encoding="utf-8")
    return path


def page(report: Report) -> str:
    # The filter h escapes every value; Mako escapes nothing by default.
    templates = TemplateLookup(
        directories=[str(Path(__file__).parent)], default_filters=["str", "h"], strict_undefined=True
    )
    text: str = templates.get_template("page.html.mako").render_unicode(
        report=report,
        options=report["options"],
        machine=report["machine"],
        began=_moment(report["began"]),
        ended=_moment(report["ended"]),
        headline=headline(report),
        headline_figures=headline_figures(report),
        first_pair=first_pair(report),
        first_spread=spread_words(report),
        disturbances=disturbed(report),
        table_rows=rows(report),
        asked=asked(report),
        timelines=timelines(report),
        slots=slots(report),
        slots_words=slots_words(report),
        blocked={name: mode for name, mode in report["modes"].items() if mode["blocks_the_loop"]},
        charts=charts(report),
        errors=_errors_by_class(report),
        colours={"light": LIGHT, "dark": DARK},
        styles={css_class(mode): style for mode, style in STYLES.items()},
    )
    return text


def _moment(text: str) -> str:
    """A moment of the report, as 5 January 2026, 09:30 UTC."""
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _errors_by_class(report: Report) -> list[tuple[str, str, str, int]]:
    """Rows of mode, scenario, class of 5XX and count, over all trials whose figures are stated."""
    counts: dict[tuple[str, str, str], int] = {}
    for trial in report["trials"]:
        if not trial["refused"]:
            for error_class, count in trial.get("errors", {}).items():
                key = (trial["mode"], trial["scenario"], error_class)
                counts[key] = counts.get(key, 0) + count
    return [
        (report["modes"][mode]["title"], TITLES[scenario], error_class, count)
        for (mode, scenario, error_class), count in counts.items()
    ]
