"""The report as JSON, with its summary; `statements` chooses the sentences about it, `page` makes the HTML file."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.report.statements import EVENTFUL, comparisons, highest_rate, left_out, stated
from optimizely_api.comparison.rig import balancer as haproxy

FORMAT = 2
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
    "orjson",
    "jsonschema-rs",
    "psutil",
    "matplotlib",
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


def document(options: Options, modes: Mapping[str, Any], began: datetime, *, interrupted: bool) -> Report:
    """The complete report of a comparison, finished or interrupted."""
    return {
        "format": FORMAT,
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "command": shlex.join(["optimizely-api", *sys.argv[1:]]),
        "options": _options(options),
        "machine": machine(),
        "versions": versions(options),
        "counting": COUNTING["load balancer" if options.balancer else "load generator"],
        "summary": summary(modes, options),
        "modes": modes,
    }


def summary(modes: Mapping[str, Any], options: Options | None = None) -> Report:
    """The figures of the table by mode, and how asyncio's highest rate relates to that of the others."""
    options = options or Options()
    return {
        "modes": {name: _figures(outcome, options.search_step) for name, outcome in modes.items()},
        "comparisons": comparisons(modes, options.search_step, quick=options.quick),
        "left_out": left_out(modes),
    }


def _figures(outcome: Mapping[str, Any], step: float) -> Report:
    search = outcome.get("search") or {}
    rate = highest_rate(outcome, step)
    return {
        "title": outcome["title"],
        "highest_rate": rate.held if rate else None,
        "highest_rate_text": rate.text if rate else None,
        "highest_rate_found_by": ("search" if search else "ramp") if rate else None,
        "highest_rate_may_be_more": bool(rate and rate.is_lower_bound),
        "p99_at_highest_ms": (search.get("at_highest") or {}).get("percentiles_ms", {}).get("99"),
        **{
            f"{name}_{key}": value
            for name in EVENTFUL
            for key, value in _eventful(stated(outcome, name)).items()
        },
        "one_request_ms": (outcome.get("one") or {}).get("median_ms"),
        "cpu_answers_per_second": (outcome.get("cpu") or {}).get("answers_per_second"),
        "idle_memory_mb": (outcome.get("idle") or {}).get("memory_mb"),
        "idle_processes": (outcome.get("idle") or {}).get("processes"),
        "most_memory_mb": _most(outcome, "most_memory_mb"),
        "most_processes": _most(outcome, "most_processes"),
        "stalls": (outcome.get("watchdog") or {}).get("stalls"),
    }


def _eventful(measured: Mapping[str, Any] | None) -> Report:
    if not measured:
        return {"error_share": None, "p99_ms": None}
    return {"error_share": measured["error_share"], "p99_ms": measured["percentiles_ms"]["99"]}


def _most(outcome: Mapping[str, Any], key: str) -> Any:
    """The maximum during the ramp, which offers all modes the same load; a restart would count the workers twice."""
    ramp = stated(outcome, "ramp")
    return ramp["usage"][key] if ramp else None


def machine() -> Report:
    return {
        "system": platform.system(),
        "release": platform.release(),
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
    return {**asdict(options), "output": str(options.output)}


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
