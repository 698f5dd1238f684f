"""How soon a change is in the datafile that is served, and how many polls one worker serves.

    python -m tests.benchmark_datafiles

The services run on SQLite. Changes go over REST to a gateway of two workers, whose datafile is then polled on new
connections until each worker has served the new revision. Polls are GETs without conditions on 16 kept connections to
a gateway of one worker, from a process on the same machine.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.support.asserting import AUTHORIZED
from tests.support.real_services import RealServices, real_services
from tests.support.serving import Served, serve

WORKERS = 2
CONNECTIONS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, real_services(Path(folder)) as services:
        with gateway(services, folder, WORKERS) as served:
            time_changes(served, options.changes)
        with gateway(services, folder, 1) as served:
            count_polls(served, services, options.seconds)


@contextlib.contextmanager
def gateway(services: RealServices, folder: str, workers: int) -> Iterator[Served]:
    log = Path(folder) / f"gateway-{workers}.log"
    with serve("main", services.settings(), log, "--workers", str(workers)) as served:
        yield served


def call(served: Served, method: str, path: str, body: Any = None) -> Any:
    response = requests.request(method, served.url + path, json=body, headers=AUTHORIZED, timeout=30)
    assert response.ok, response.text
    return response.json()


def new_project(served: Served) -> tuple[Any, str]:
    """A project with a running experiment; returns the experiment and the address of the datafile."""
    project = call(served, "POST", "/v2/projects", {"name": "Shop", "platform": "custom"})
    environments = call(served, "GET", f"/v2/environments?project_id={project['id']}")
    variations = [{"key": key, "weight": 5000} for key in ("control", "treatment")]
    body = {"project_id": project["id"], "key": "checkout", "variations": variations}
    experiment = call(served, "POST", "/v2/experiments?action=start", body)
    return experiment, f"/datafiles/{environments[0]['datafile']['sdk_key']}.json"


def time_changes(served: Served, count: int) -> None:
    experiment, path = new_project(served)
    session = requests.Session()
    session.headers.update(AUTHORIZED)
    after_response, in_all = [], []
    revision = int(requests.get(served.url + path, timeout=30).json()["revision"])
    for number in range(count):
        started = time.perf_counter()
        change = {"traffic_allocation": 1000 + number}
        address = f"{served.url}/v2/experiments/{experiment['id']}"
        assert session.patch(address, json=change, timeout=30).status_code == 200
        responded = time.perf_counter()
        revision += 1
        fresh_in_a_row = 0
        while fresh_in_a_row < 4 * WORKERS:  # each on a new connection, which any worker may accept
            is_fresh = int(requests.get(served.url + path, timeout=30).json()["revision"]) >= revision
            fresh_in_a_row = fresh_in_a_row + 1 if is_fresh else 0
            if fresh_in_a_row == 1:
                fresh_since = time.perf_counter()
        after_response.append(fresh_since - responded)
        in_all.append(fresh_since - started)
    for what, times in (("the response", after_response), ("the change was sent", in_all)):
        shown = 1000 * statistics.median(times), 1000 * statistics.quantiles(times, n=100)[98]
        print(f"{count} changes: polled {shown[0]:.1f} ms after {what} (p50), {shown[1]:.1f} ms (p99)")


def count_polls(served: Served, services: RealServices, seconds: float) -> None:
    _, path = new_project(served)
    size = len(requests.get(served.url + path, timeout=30).content)
    before = reads(services, path)
    polls = asyncio.run(polled(served.port, path, seconds))
    print(
        f"{polls / seconds:.0f} polls a second of a datafile of {size} bytes by one worker, for {seconds:g} s:"
        f" {reads(services, path) - before} reads of the experiments service"
    )


def reads(services: RealServices, path: str) -> int:
    """The calls about the datafile that the experiments service has logged."""
    log = (services.folder / "experiments.log").read_text()
    return log.count(path.removesuffix(".json"))


async def polled(port: int, path: str, seconds: float) -> int:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    end = time.monotonic() + seconds
    return sum(await asyncio.gather(*(_poll(port, request, end) for _ in range(CONNECTIONS))))


async def _poll(port: int, request: bytes, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        count += 1
    writer.close()
    return count


if __name__ == "__main__":
    main()
