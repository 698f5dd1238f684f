"""The report as JSON, with its summary; `statements` chooses the sentences about it, `page` makes the HTML file."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.report.figures import Figure, figures
from optimizely_api.comparison.report.statements import Rate, comparisons, highest_rate, left_out, slots
from optimizely_api.comparison.report.trials import Trial
from optimizely_api.comparison.rig import balancer as haproxy
from optimizely_api.comparison.rig.run import Results

FORMAT = 3
PACKAGES = (
    "optimizely_api",
    "pyramid",
    "aiopyramid",
    "pyramid_swagger",
    "gunicorn",
    "aiohttp",
    "uvloop",
    "greenlet",
    "requests",
    "gevent",
    "orjson",
    "jsonschema-rs",
    "psutil",
)
COUNTING = {
    "load balancer": (
        "5XX are counted from HAProxy's log, in the second in which a request arrived: those that it passed on from "
        "the gateway, and its own 502 (the connection broke off), 503 (no connection) and 504 (no response in time). "
        "A caller that is not answered at all gives up two seconds after that limit, and is counted with them. "
        "Shares are of requests, each by the one end that its caller saw; a request that was asked again on a new "
        "connection may have caused a 5XX before. "
        "HAProxy's counters are in report.json beside them."
    ),
    "load generator": (
        "No balancer: 5XX are those answered, and what one would have answered in the generator's place: a refused "
        "connection is a 503, one that broke off or did not speak HTTP a 502, no response in time a 504."
    ),
}

Report = dict[str, Any]


def document(options: Options, results: Results, began: datetime, *, interrupted: bool) -> Report:
    """The complete report of a comparison, finished or interrupted."""
    return {
        "format": FORMAT,
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "command": shlex.join(["optimizely-api", *_without_output(sys.argv[1:])]),
        "options": _options(options),
        "machine": machine(),
        "versions": versions(options),
        "counting": COUNTING["load balancer" if options.balancer else "load generator"],
        "summary": summary(results.modes, results.trials, options),
        "modes": results.modes,
        "trials": results.trials,
        "traces": results.traces,
    }


def summary(modes: Mapping[str, Any], trials: Sequence[Trial], options: Options | None = None) -> Report:
    """The figures by mode, how asyncio's highest rate relates to that of the others, and what is left out."""
    options = options or Options()
    rates = {name: rate for name in modes if (rate := highest_rate(trials, name))}
    rows = {
        name: {
            "title": mode["title"],
            **_highest(rates.get(name)),
            "figures": {
                "highest_rate": _rate_figure(rates.get(name)),
                **figures(name, mode, trials, options.overloads),
            },
        }
        for name, mode in modes.items()
    }
    return {
        "modes": rows,
        "comparisons": comparisons(rates, quick=options.quick),
        "slots": slots(modes, {name: row["figures"] for name, row in rows.items()}),
        "left_out": left_out(modes, trials),
    }


def _highest(rate: Rate | None) -> Report:
    return {
        "highest_rate_text": rate.text if rate else None,
        "highest_rate_found_by": ("search" if rate.searched else "ramp") if rate else None,
        "highest_rate_may_be_more": bool(rate and rate.is_lower_bound),
    }


def _rate_figure(rate: Rate | None) -> Figure | None:
    """The highest rate as a figure; `most` is None where no higher rate failed, as JSON has no infinity."""
    if rate is None:
        return None
    return {
        "value": rate.middle,
        "least": rate.held,
        "most": None if rate.is_lower_bound else rate.failed,
        "trials": rate.trials,
        "requests": None,
        "text": rate.text,
    }


def machine() -> Report:
    return {
        "system": platform.system(),
        "release": platform.release().partition("-")[0],  # the rest is its builder's
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "load_average_at_end": [round(load, 2) for load in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
    }


def versions(options: Options) -> Report:
    found: Report = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found["balancer"] = _balancer_version() if options.balancer else None
    return found


def write_json(report: Report, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return path


def _options(options: Options) -> Report:
    """The options but for the folder of the report, which tells nothing of the measurements and much of the machine."""
    return {name: value for name, value in asdict(options).items() if name != "output"}


def _without_output(arguments: Sequence[str]) -> list[str]:
    kept = []
    follows = False
    for argument in arguments:
        if not (follows or argument == "--output" or argument.startswith("--output=")):
            kept.append(argument)
        follows = argument == "--output"
    return kept


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return None


def _balancer_version() -> str | None:
    try:
        return haproxy.version(haproxy.find())
    except (CannotCompare, OSError, subprocess.SubprocessError):
        return None
