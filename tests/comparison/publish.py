"""Keep a report of the comparison in docs/, with its figures in the README: `make report FROM=comparison`.

The folder must hold the report.json of a whole comparison: every scenario of the usual modes, with all repetitions.
The summary, the page and the README's table are made anew from the figures.
"""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.captions import headline, headline_figures
from optimizely_api.comparison.report.page import write_page
from optimizely_api.comparison.report.report import summary, write_json
from optimizely_api.comparison.report.table import rows
from tests.support.serving import ROOT

README = ROOT / "README.md"
KEPT = ROOT / "docs" / "comparison-report"
BEGIN, END = "<!-- from docs/comparison-report/report.json -->\n", "<!-- end -->\n"
QUOTED = (
    "highest rate",
    "asyncio carries",
    "5XX or no response, load grows",
    "equal rate",
    "5XX or no response, restart",
    "good responses at",
    "recovery from",
)


def section(report: dict[str, Any]) -> str:
    """What the README says about the report: a sentence, the figures, and what they are of."""
    head, *body = rows(report)
    quoted = [row for row in body if row[0].startswith(QUOTED)]
    machine = report["machine"]
    day = datetime.fromisoformat(report["began"])
    return "\n".join(
        [
            f"{headline(report)}: {headline_figures(report)}",
            "",
            *(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *quoted)),
            "",
            f"Of {day.day} {day:%B %Y}, on {machine['processors']} processors ({machine['processor']}),",
            f"{machine['python'].partition(' (')[0]}; upstreams that take {report['options']['delay_ms']:g} ms,",
            f"{report['options']['repeat']} repetitions where the page names no fewer, least and most in brackets.",
            f"`{report['command']}` made",
            "[all figures](docs/comparison-report/report.json) and [the page](docs/comparison-report/report.html).",
            "",
        ]
    )


def with_section(readme: str, report: dict[str, Any]) -> str:
    """The README with the section in place of the one before."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no {BEGIN.strip()} before {END.strip()}")
    return f"{before}{begin}{section(report)}{end}{after}"


def why_not(report: dict[str, Any]) -> str:
    """Why the report is not one to keep; an empty text if it is."""
    usual = Options()
    options = report["options"]
    for name in ("modes", "scenarios", "repeat", "quick", "balancer", "upstreams"):
        wanted = getattr(usual, name)
        if options[name] != (list(wanted) if isinstance(wanted, tuple) else wanted):
            return f"{name} is {options[name]}, not as usual"
    return "it was interrupted" if report["interrupted"] else ""


def publish(folder: Path) -> None:
    """Raises SystemExit with the reason where the folder holds no report to keep."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if reason := why_not(report):
        sys.exit(f"{folder}/report.json is not of a whole comparison: {reason}.")
    report["summary"] = summary(report["modes"], report["trials"])
    readme = with_section(README.read_text(encoding="utf-8"), report)
    print(write_json(report, KEPT).relative_to(ROOT))
    print(write_page(report, KEPT).relative_to(ROOT))
    README.write_text(readme, encoding="utf-8")
    print(README.relative_to(ROOT))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where `optimizely-api compare` wrote report.json")
    publish(parser.parse_args().folder)
