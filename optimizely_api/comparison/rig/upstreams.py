"""The gateway's upstreams: the stub of the services, or the services themselves with demo data."""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.rig.gateway import Target
from optimizely_api.comparison.rig.processes import POLL_SECONDS, Process, Usage, free_ports, is_listening
from optimizely_api.comparison.stub import entities as stub_entities
from optimizely_api.services_key import VARIABLE

LONGEST_START_SECONDS = 60.0
RESPONSE_SECONDS = 5.0


class StubProcess:
    """The stub of the three services (`stub.server`) in one process, with delays that can change at any time."""

    def __init__(self, options: Options, folder: Path) -> None:
        module = "optimizely_api.comparison.stub.server"
        behaviour = {
            "--ports": "0,0,0",
            "--control-port": 0,
            "--delay-ms": options.delay_ms,
            "--tail-share": options.tail_share,
            "--tail-factor": options.tail_factor,
            "--fail-share": options.fail_share,
            "--fan-out": max(1, options.fan_out),
            "--seed": options.seed,
        }
        arguments = [str(part) for pair in behaviour.items() for part in pair]
        key = secrets.token_urlsafe()
        command = [sys.executable, "-m", module, *arguments]
        self._process = Process("upstreams", command, folder, {VARIABLE: key})
        try:
            ports = self._wait_for_ports()
        except BaseException:
            self.stop()
            raise
        self._control_port = ports.pop("control")
        self.settings = {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.settings["services_key"] = key
        self.target = Target(_path(options), {"Authorization": "Bearer 2:comparison"})

    @contextlib.contextmanager
    def slow_results(self, delay_ms: float) -> Iterator[None]:
        """Delay the responses of the results service while the block runs."""
        self._control(f"/_set?results.delay_ms={delay_ms:g}")
        try:
            yield
        finally:
            self._control("/_reset")

    def record(self) -> None:
        """Record the begin and end of every call from now on."""
        self._control("/_record")

    def recorded(self) -> list[dict[str, Any]]:
        """The calls since `record`, each with request_id, service, path, begin and end (of `time.monotonic`)."""
        calls: list[dict[str, Any]] = json.loads(self._control("/_recorded"))
        return calls

    def usage(self) -> Usage:
        return self._process.usage()

    def stop(self) -> None:
        self._process.stop()

    def _control(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        address = f"http://127.0.0.1:{self._control_port}{path}"
        with opener.open(address, timeout=RESPONSE_SECONDS) as response:
            body: bytes = response.read()
        return body

    def _wait_for_ports(self) -> dict[str, int]:
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while self._process.running and time.monotonic() < deadline:
            text = self._process.output.read_text()
            if text.endswith("\n"):
                ports: dict[str, int] = json.loads(text.splitlines()[0])
                return ports
            time.sleep(POLL_SECONDS)
        raise CannotCompare(f"The stub of the services did not start:\n{self._process.tail()}")


class ServiceProcesses:
    """The three services on new SQLite files in `folder`, on free ports."""

    def __init__(self, folder: Path) -> None:
        from optimizely_api.services.http.server import SERVICES

        self.key = secrets.token_urlsafe()
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self.processes: dict[str, Process] = {}
        self._folder = folder
        self._data = folder / "data"
        self._data.mkdir()

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}

    async def start_all(self) -> None:
        """Start them; raises CannotCompare with a service's log when it does not start."""
        for name in self.ports:
            self.start(name)
        for name in self.ports:
            await self.until_listening(name)

    def start(self, name: str) -> None:
        """Start one on its database, without waiting until it listens."""
        command = [
            sys.executable,
            "-m",
            "optimizely_api.cli",
            "service",
            name,
            "--port",
            str(self.ports[name]),
        ]
        url = f"sqlite:///{self._data / name}.sqlite3"
        self.processes[name] = Process(
            name, [*command, "--database-url", url], self._folder, {VARIABLE: self.key}
        )

    async def until_listening(self, name: str) -> None:
        """Wait for one that was started; raises CannotCompare with its log when it does not listen."""
        process, deadline = self.processes[name], time.monotonic() + LONGEST_START_SECONDS
        while not is_listening(self.ports[name]):
            if not process.running or time.monotonic() > deadline:
                raise CannotCompare(f"The {name} service did not start:\n{process.tail()}")
            await asyncio.sleep(POLL_SECONDS)

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()


class RealServices:
    """The three services on new SQLite files, with the demo data."""

    def __init__(self, options: Options, folder: Path) -> None:
        if options.fan_out:
            raise CannotCompare("--fan-out needs the stub: the demo data has campaigns of its own sizes.")
        self._services = ServiceProcesses(folder)
        self.settings = {
            "services_key": self._services.key,
            **{f"{name}_url": url for name, url in self._services.urls.items()},
        }
        self.target = Target("", {})

    async def start(self) -> None:
        """Start them and load the demo data; raises CannotCompare with a service's log when it does not start."""
        from optimizely_api.demo import load_demo

        await self._services.start_all()
        urls = self._services.urls
        summary = await load_demo(
            urls["projects"],
            urls["experiments"],
            urls["results"],
            Console(quiet=True),
            key=self._services.key,
        )
        self.target = Target(
            f"/v2/experiments/{summary.experiment_id}/results", {"Authorization": f"Bearer {summary.token}"}
        )

    @contextlib.contextmanager
    def slow_results(self, delay_ms: float) -> Iterator[None]:
        """Stop the results service while the block runs; `delay_ms` has no effect here."""
        results = self._services.processes["results"]
        results.send_signal_to_all(signal.SIGSTOP)
        try:
            yield
        finally:
            results.send_signal_to_all(signal.SIGCONT)

    def usage(self) -> Usage:
        parts = [process.usage() for process in self._services.processes.values()]
        return Usage(
            sum(part.processes for part in parts),
            sum(part.memory_bytes for part in parts),
            sum(part.cpu_seconds for part in parts),
        )

    def stop(self) -> None:
        self._services.stop()


Upstreams = StubProcess | RealServices


@contextlib.asynccontextmanager
async def start_upstreams(options: Options, folder: Path) -> Any:
    """Run the upstreams that the options name until the block ends."""
    if options.upstreams == "stub":
        stub = StubProcess(options, folder)
        try:
            yield stub
        finally:
            stub.stop()
        return
    real = RealServices(options, folder)
    try:
        await real.start()
        yield real
    finally:
        real.stop()


def _path(options: Options) -> str:
    if options.fan_out:
        return f"/v2/campaigns/{stub_entities.CAMPAIGNS_FROM + 1}/results"
    return f"/v2/experiments/{stub_entities.EXPERIMENTS_FROM}/results"
