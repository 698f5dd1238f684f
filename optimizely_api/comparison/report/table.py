"""The table of the results for the terminal and the page, with a column per mode."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from optimizely_api.comparison.report.report import Report

MISSING = "-"

# Row title, key of the summary's figures.
ROWS = (
    ("equal rate, median", "steady_equal_p50_ms"),
    ("equal rate, p99", "steady_equal_p99_ms"),
    ("own share, median", "steady_share_p50_ms"),
    ("own share, p99", "steady_share_p99_ms"),
    ("5XX or no response, load grows", "ramp_error_share"),
    ("p99, load grows", "ramp_p99_ms"),
    ("5XX or no response, upstream slow", "slow_error_share"),
    ("p99, upstream slow", "slow_p99_ms"),
    ("5XX or no response, restart", "restart_error_share"),
    ("p99, restart", "restart_p99_ms"),
)
MORE_ROWS = (
    ("one slow request alone", "one_request_ms"),
    ("computing, answers per second", "cpu_answers_per_second"),
    ("most memory, load grows", "most_memory_mb"),
    ("most processes", "most_processes"),
)


def rows(report: Report) -> list[list[str]]:
    """The head with the modes, then one row per figure that some mode has, each with its spread."""
    modes: Mapping[str, Any] = report["summary"]["modes"]
    options = report["options"]
    comparisons = report["summary"]["comparisons"]
    overloads = [
        row
        for factor in options["overloads"]
        for row in (
            (f"good responses at {factor:g} x its limit", f"overload_{factor:g}_goodput"),
            (f"recovery from {factor:g} x its limit", f"overload_{factor:g}_recovery_seconds"),
        )
    ]
    return [
        ["", *(row["title"] for row in modes.values())],
        [
            f"highest rate, no 5XX, p99 < {options['objective_ms'] / 1000:g} s",
            *(row["highest_rate_text"] or MISSING for row in modes.values()),
        ],
        ["asyncio carries", *(comparisons.get(name, {}).get("text", MISSING) for name in modes)],
        *(
            [title, *(_text(row["figures"].get(key)) for row in modes.values())]
            for title, key in (*ROWS, *overloads, *MORE_ROWS)
            if any(row["figures"].get(key) for row in modes.values())
        ),
    ]


def rich_table(report: Report) -> Table:
    head, *body = rows(report)
    table = Table(title="Blocking against asyncio")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in body:
        table.add_row(*row)
    return table


def _text(figure: Mapping[str, Any] | None) -> str:
    return str(figure["text"]) if figure else MISSING
