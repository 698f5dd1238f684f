"""The report as JSON, with its summary and the sentences about it; `page` makes the HTML file."""

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
from statistics import median
from typing import Any

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.report.arithmetic import ratio
from optimizely_api.comparison.rig import balancer as haproxy

FORMAT = 1
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
        "summary": summary(modes),
        "modes": modes,
    }


def summary(modes: Mapping[str, Any]) -> Report:
    """The figures of the table by mode, and the ratios of the modes' highest rates."""
    figures = {name: _figures(outcome) for name, outcome in modes.items()}
    highest = {name: row["highest_rate"] for name, row in figures.items()}
    return {
        "modes": figures,
        "ratios": {
            f"asyncio / {other}": ratio(highest.get("asyncio"), highest[other])
            for other in highest
            if other != "asyncio" and "asyncio" in highest
        },
    }


def _figures(outcome: Mapping[str, Any]) -> Report:
    search = outcome.get("search") or {}
    highest = search or outcome.get("ramp") or {}
    return {
        "title": outcome["title"],
        "highest_rate": highest.get("highest_rate"),
        "highest_rate_found_by": "search" if search else "ramp" if highest else None,
        "highest_rate_may_be_more": bool(highest.get("reached_limit")),
        "p99_at_highest_ms": (search.get("at_highest") or {}).get("percentiles_ms", {}).get("99"),
        **{
            f"{name}_{key}": value for name in EVENTFUL for key, value in _eventful(outcome.get(name)).items()
        },
        "one_request_ms": (outcome.get("one") or {}).get("median_ms"),
        "cpu_answers_per_second": (outcome.get("cpu") or {}).get("answers_per_second"),
        "idle_memory_mb": (outcome.get("idle") or {}).get("memory_mb"),
        "idle_processes": (outcome.get("idle") or {}).get("processes"),
        "most_memory_mb": _most(outcome, "most_memory_mb"),
        "most_processes": _most(outcome, "most_processes"),
        "stalls": (outcome.get("watchdog") or {}).get("stalls"),
    }


DISTURBING_SHARE = 0.15
EVENTFUL = ("ramp", "slow", "restart", "blocking")


def _eventful(measured: Mapping[str, Any] | None) -> Report:
    """The figures of a scenario; None if the generator did not keep the rate."""
    if not measured or measured["not_fit"]:
        return {"error_share": None, "p99_ms": None}
    return {"error_share": measured["error_share"], "p99_ms": measured["percentiles_ms"]["99"]}


def _most(outcome: Mapping[str, Any], key: str) -> Any:
    """The maximum during the ramp, which offers all modes the same load; a restart would count the workers twice."""
    return outcome["ramp"]["usage"][key] if "ramp" in outcome else None


def rate_text(row: Mapping[str, Any]) -> str:
    """A mode's highest rate with three digits, and with a sign if it may be more."""
    more = "≥ " if row["highest_rate_may_be_more"] else ""
    return f"{more}{float(format(row['highest_rate'], '.3g')):g}/s"


def not_fit(modes: Mapping[str, Any]) -> list[str]:
    """A sentence for each measurement left out because the generator did not keep the rate."""
    return [
        f"{outcome['title']}, {name}: {sentence}"
        for outcome in modes.values()
        for name in EVENTFUL
        if name in outcome
        for sentence in outcome[name]["not_fit"]
    ]


def disturbed(report: Report) -> list[str]:
    """A warning if other programs used more than DISTURBING_SHARE of the processors during a measurement."""
    shares = [
        measured["usage"]["others_share"]
        for outcome in report["modes"].values()
        for measured in (*(outcome[name] for name in EVENTFUL if name in outcome), *_trials(outcome))
    ]
    if not shares or max(shares) < DISTURBING_SHARE:
        return []
    return [
        f"Other programs took up to {max(shares):.0%} of the processors while this was measured, {median(shares):.0%} "
        "in the median: rates are lower, and less comparable, than on a machine that does nothing else."
    ]


def _trials(outcome: Mapping[str, Any]) -> list[Any]:
    trials: list[Any] = (outcome.get("search") or {}).get("trials", [])
    return trials


def plain_words(report: Report) -> list[str]:
    """Sentences on where asyncio does not help and on the cost of blocking its loop, with the figures of this run."""
    figures = report["summary"]["modes"]
    sentences = []
    if one := {row["title"]: row["one_request_ms"] for row in figures.values() if row["one_request_ms"]}:
        least = next((o["one"]["least_possible_ms"] for o in report["modes"].values() if "one" in o), None)
        waiting = f", of which {least:g} ms is waiting for the upstreams" if least else ""
        sentences.append(
            f"One slow request on an idle machine is not made faster{waiting}: {_listed(one, '{:.0f} ms')}."
        )
    if cpu := {
        row["title"]: row["cpu_answers_per_second"]
        for row in figures.values()
        if row["cpu_answers_per_second"]
    }:
        sentences.append(
            f"Computing is not made faster: with {report['options']['cpu_ms']:g} ms of pure Python per request, "
            f"answers per second were {_listed(cpu, '{:.0f}')}. On an event loop it also keeps everybody else waiting."
        )
    if blocked := report["modes"].get("asyncio-blocked", {}).get("blocking"):
        sentences.append(_blocked_words(blocked))
    return sentences


def _blocked_words(blocked: Mapping[str, Any]) -> str:
    share = blocked["blocking_rate"] * blocked["blocking_ms"] / 1000
    calm, held = blocked["p99_without_ms"], blocked["p99_with_ms"]
    figures = f"from {calm:.0f} ms to {held:.0f} ms" if calm and held else "(not measured)"
    watchdog = blocked["watchdog"]
    return (
        f"One view that blocks takes the gain away from everybody: with {blocked['blocking_rate']:g} call a second "
        f"that sleeps {blocked['blocking_ms']:g} ms ({share:.0%} of one worker's time), the p99 of all other requests "
        f"went {figures} at {blocked['rate']:g}/s. The watchdog logged {watchdog['stalls']} stalls meanwhile."
    )


def _listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{title} {form.format(value)}" for title, value in values.items())


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
