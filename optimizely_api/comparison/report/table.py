"""The table of the results for the terminal and the page, with a column per mode."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import share_text

MISSING = "-"

# Row title, key of the summary, form; None for a share.
ROWS = (
    ("5XX or no response, load grows", "ramp_error_share", None),
    ("p99, load grows", "ramp_p99_ms", "{:.0f} ms"),
    ("5XX or no response, upstream slow", "slow_error_share", None),
    ("p99, upstream slow", "slow_p99_ms", "{:.0f} ms"),
    ("5XX or no response, restart", "restart_error_share", None),
    ("p99, restart", "restart_p99_ms", "{:.0f} ms"),
    ("one slow request alone", "one_request_ms", "{:.0f} ms"),
    ("computing, answers per second", "cpu_answers_per_second", "{:.0f}/s"),
    ("most memory, load grows", "most_memory_mb", "{:.0f} MB"),
    ("most processes", "most_processes", "{:d}"),
)


def rows(report: Report) -> list[list[str]]:
    """The head with the modes, then one row per figure."""
    modes: Mapping[str, Any] = report["summary"]["modes"]
    objective = report["options"]["objective_ms"] / 1000
    comparisons = report["summary"]["comparisons"]
    return [
        ["", *(row["title"] for row in modes.values())],
        [
            f"highest rate, no 5XX, p99 < {objective:g} s",
            *(row["highest_rate_text"] or MISSING for row in modes.values()),
        ],
        ["asyncio carries", *(comparisons.get(name, {}).get("text", MISSING) for name in modes)],
        *([title, *(_text(row[key], form) for row in modes.values())] for title, key, form in ROWS),
    ]


def rich_table(report: Report) -> Table:
    head, *body = rows(report)
    table = Table(title="Blocking against asyncio")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in body:
        table.add_row(*row)
    return table


def _text(value: Any, form: str | None) -> str:
    if value is None:
        return MISSING
    return form.format(value) if form else share_text(value)
