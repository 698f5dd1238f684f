"""The gateway's upstreams: the stub of the services, or the services themselves with demo data."""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
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


class RealServices:
    """The three services on new SQLite files, with the demo data."""

    def __init__(self, options: Options, folder: Path) -> None:
        if options.fan_out:
            raise CannotCompare("--fan-out needs the stub: the demo data has campaigns of its own sizes.")
        self._folder = folder
        self._processes: dict[str, Process] = {}
        self._key = secrets.token_urlsafe()
        self.settings = {"services_key": self._key}
        self.target = Target("", {})

    async def start(self) -> None:
        """Start them and load the demo data; raises CannotCompare with a service's log when it does not start."""
        from optimizely_api.demo import load_demo
        from optimizely_api.services.http.server import SERVICES

        data = self._folder / "data"
        data.mkdir()
        ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        for name, port in ports.items():
            command = [sys.executable, "-m", "optimizely_api.cli", "service", name, "--port", str(port)]
            url = f"sqlite:///{data / name}.sqlite3"
            self._processes[name] = Process(
                name, [*command, "--database-url", url], self._folder, {VARIABLE: self._key}
            )
            self.settings[f"{name}_url"] = f"http://127.0.0.1:{port}"
        await self._until_listening(ports)
        summary = await load_demo(
            self.settings["projects_url"],
            self.settings["experiments_url"],
            self.settings["results_url"],
            Console(quiet=True),
            key=self._key,
        )
        self.target = Target(
            f"/v2/experiments/{summary.experiment_id}/results", {"Authorization": f"Bearer {summary.token}"}
        )

    @contextlib.contextmanager
    def slow_results(self, delay_ms: float) -> Iterator[None]:
        """Stop the results service while the block runs; `delay_ms` has no effect here."""
        results = self._processes["results"]
        results.send_signal_to_all(signal.SIGSTOP)
        try:
            yield
        finally:
            results.send_signal_to_all(signal.SIGCONT)

    def usage(self) -> Usage:
        parts = [process.usage() for process in self._processes.values()]
        return Usage(
            sum(part.processes for part in parts),
            sum(part.memory_bytes for part in parts),
            sum(part.cpu_seconds for part in parts),
        )

    def stop(self) -> None:
        for process in self._processes.values():
            process.stop()

    async def _until_listening(self, ports: Mapping[str, int]) -> None:
        deadline = time.monotonic() + LONGEST_START_SECONDS
        for name, port in ports.items():
            while not is_listening(port):
                if not self._processes[name].running or time.monotonic() > deadline:
                    raise CannotCompare(f"The {name} service did not start:\n{self._processes[name].tail()}")
                await asyncio.sleep(POLL_SECONDS)


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
