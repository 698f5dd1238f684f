"""What lists of 100 cost: `python -m tests.benchmark_lists`.

One worker of the gateway and of each service, as processes, on SQLite files, with 100 entities of each kind in a
project. Printed are the milliseconds of CPU time that gateway and services together take for a list, as the scheduler
counts them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import requests
from rich.console import Console
from rich.table import Table

from optimizely_api.contract.load import load
from tests.support import samples
from tests.support.real_services import RealServices, real_services
from tests.support.serving import serve

NUMBER = 100
REPEATS = 10
HEADERS = {"Authorization": f"Bearer {samples.TOKEN}"}
VALUES: dict[str, list[str]] = {  # of query parameters that are required, beside ids
    "query": [""],
    "usage_date_from": ["2026-01-01"],
    "usage_date_to": ["2026-12-31"],
}


def _fill(services: RealServices) -> int:
    """Make the entities, and return the project that has the environments: each feature has an entry for each."""
    other = services.another_project()["id"]
    owner = {"account_id": services.account_id, "project_id": services.ids["project_id"]}
    session = services.made
    audiences = [
        session("experiments", "/audiences", **owner, name=f"Audience {n}", conditions="[]")["id"]
        for n in range(NUMBER)
    ]
    for n in range(NUMBER):
        named = {**owner, "name": f"Entity {n}"}
        keyed = {**named, "key": f"key_{n}"}
        session("experiments", "/attributes", **keyed)
        session("experiments", "/events", **keyed, event_type="custom")
        session("experiments", "/pages", **named, edit_url="https://shop.example/")
        values = {"key_field": "id", "list_type": "query_parameters", "list_content": "a,b"}
        session("experiments", "/list_attributes", **owner, name=f"list_{n}", **values)
        session("experiments", "/groups", **named, policy="random", entities=[])
        session("experiments", "/layers", **named, type="personalization")
        session(
            "experiments",
            "/extensions",
            **named,
            edit_url="https://shop.example/",
            fields=[],
            implementation={},
        )
        rule = {"enabled": True, "audience_conditions": json.dumps(["or", {"audience_id": audiences[n]}])}
        environments = {"qa": {"is_primary": True, "rollout_rules": [rule]}}
        session("experiments", "/features", **keyed, environments=environments)
        services.another_experiment(name=f"Experiment {n}", audience_conditions=rule["audience_conditions"])
        session("projects", "/projects", account_id=services.account_id, name=f"Project {n}")
        session("projects", "/environments", **{**keyed, "project_id": other})
    return int(other)


def _lists(services: RealServices, with_environments: int) -> Iterator[tuple[str, str]]:
    """(operation, address) of every operation with pages that is served and whose ids are known."""
    known = {**services.ids, "account_id": services.account_id}
    for name, operation in sorted(load().operations.items()):
        parameters: list[dict[str, Any]] = operation.spec.get("parameters", [])
        names = {parameter["name"] for parameter in parameters}
        needed = [one["name"] for one in parameters if one.get("required")]
        if "per_page" not in names or not all(one in known or one in VALUES for one in needed):
            continue
        path = operation.path.format_map(known)
        query: list[tuple[str, Any]] = [("per_page", NUMBER)]
        project_id = with_environments if name == "list_environments" else known["project_id"]
        query += [("project_id", project_id)] if "project_id" in names else []
        query += [(one, value) for one in needed if one in VALUES for value in VALUES[one]]
        yield name, f"{path}?{'&'.join(f'{key}={value}' for key, value in query)}"


def _cpu_seconds() -> float:
    """What all processes that this one has started have computed."""
    pids = [process.pid for process in psutil.Process().children(recursive=True)]
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def main() -> None:
    """Print the costs."""
    table = Table(title=f"Lists of {NUMBER}: CPU time of gateway and services")
    for name in ("operation", "status", "items", "kB", "CPU ms"):
        table.add_column(name, justify="left" if name == "operation" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            real_services(folder, results_workers=1) as services,
            serve("main", services.settings(), folder / "gateway.log", "--workers", "1") as gateway,
            requests.Session() as session,
        ):
            with_environments = _fill(services)
            for operation, address in _lists(services, with_environments):
                url = f"{gateway.url}{address}"
                response = session.get(url, headers=HEADERS, timeout=60)
                before = _cpu_seconds()
                for _ in range(REPEATS):
                    response = session.get(url, headers=HEADERS, timeout=60)
                cost = 1e3 * (_cpu_seconds() - before) / REPEATS
                body = response.json() if response.content else None
                items = str(len(body)) if isinstance(body, list) else ""
                size = f"{len(response.content) / 1000:.1f}"
                table.add_row(operation, str(response.status_code), items, size, f"{cost:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
