"""report.html: one file, with the charts inside, that needs nothing else."""

import base64
from html import escape
from pathlib import Path
from typing import Any

from optimizely_api.comparison.report.charts import Chart, charts
from optimizely_api.comparison.report.report import EVENTFUL, Report, disturbed, not_fit, plain_words
from optimizely_api.comparison.report.table import rows
from optimizely_api.comparison.scenarios import TITLES

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption { color: #444 }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
.scroll { overflow-x: auto } .broken { background: #fff3cd; padding: .6rem 1rem }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem }
"""


def write_page(report: Report, folder: Path) -> Path:
    """Draw the charts and write report.html into the folder."""
    path = folder / "report.html"
    path.write_text(page(report, charts(report)), encoding="utf-8")
    return path


def page(report: Report, pictures: list[Chart]) -> str:
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Blocking against asyncio</title><style>{STYLE}</style></head><body>",
        "<h1>Blocking against asyncio</h1>",
        _introduction(report),
        _list("A machine with other things to do", disturbed(report)),
        _table(report),
        *(_figure(chart) for chart in pictures),
        _list("Where asyncio does not help", plain_words(report)),
        _watchdog(report),
        _list("Left out, because the load generator did not keep the rate", not_fit(report["modes"])),
        _classes(report),
        _settings(report),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _introduction(report: Report) -> str:
    machine, options = report["machine"], report["options"]
    said = (
        f"The same application, contract checks, upstreams and number of workers ({options['workers']}) under "
        f"different gunicorn workers, on one machine: {machine['processors']} processors ({machine['processor']}), "
        f"{machine['system']} {machine['release']}, {machine['python']}. The load generator, the load balancer and the "
        f"upstreams ran on the same processors, at a higher priority than the gateway. Measured {report['began']}."
    )
    broken = "<p class='broken'>This comparison was broken off: what is missing was not measured.</p>"
    return (
        broken if report["interrupted"] else ""
    ) + f"<p>{escape(said)}</p><pre>{escape(report['command'])}</pre>"


def _table(report: Report) -> str:
    head, *body = rows(report)
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return f"<div class='scroll'><table><tr>{cells}</tr>{''.join(lines)}</table></div>"


def _figure(chart: Chart) -> str:
    data = base64.b64encode(chart.png).decode()
    return (
        f"<h2>{escape(chart.title)}</h2><figure><img alt='{escape(chart.title)}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{escape(chart.caption)}</figcaption></figure>"
    )


def _list(title: str, sentences: list[str]) -> str:
    if not sentences:
        return ""
    return (
        f"<h2>{escape(title)}</h2><ul>" + "".join(f"<li>{escape(text)}</li>" for text in sentences) + "</ul>"
    )


def _classes(report: Report) -> str:
    """Who answered the 5XX, and why."""
    counts = [
        (outcome["title"], TITLES[name], kind, str(count))
        for outcome in report["modes"].values()
        for name in EVENTFUL
        if name in outcome and not outcome[name]["not_fit"]
        for kind, count in outcome[name]["errors"].items()
    ]
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in counts]
    head = "<tr><th>mode</th><th>scenario</th><th>class</th><th>5XX</th></tr>"
    table = f"<table>{head}{''.join(lines)}</table>" if lines else "<p>There were none.</p>"
    return f"<h2>5XX by class</h2>{table}<p>{escape(report['counting'])}</p>"


def _watchdog(report: Report) -> str:
    said: Any = report["modes"].get("asyncio-blocked", {}).get("watchdog", {})
    if not said.get("said"):
        return ""
    return (
        f"<h2>What the watchdog says</h2><p>{said['stalls']} stalls in this mode, the longest of "
        f"{said['longest_seconds']:g} s. The first of them:</p><pre>{escape(chr(10).join(said['said']))}</pre>"
    )


def _settings(report: Report) -> str:
    lines = [f"{name} = {value}" for name, value in report["options"].items()]
    found = [f"{name} {version}" for name, version in report["versions"].items() if version]
    return (
        f"<h2>Settings and versions</h2><pre>{escape(chr(10).join(lines))}</pre>"
        f"<pre>{escape(chr(10).join(found))}</pre>"
        "<p>No mode shares calls between requests or keeps their answers. Every figure is in report.json.</p>"
    )
