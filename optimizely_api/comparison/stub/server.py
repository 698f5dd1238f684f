"""A light stub of the three services, so that a load measures the gateway and not its upstreams.

    python -m optimizely_api.comparison.stub.server --ports 6551,6552,6553 --control-port 6550 --delay-ms 50

One process, one event loop, no framework: a response costs about 50 microseconds of CPU. Every response comes after the
delay, a share of them (the tail) after a multiple of it, and a share of the calls fails. All of this can be changed at
run time:

    GET /_set?results.delay_ms=2000&tail_share=0.05    a key without a service's name sets all three
    GET /_stats                                        counts and behaviour of each service
    GET /_record                                       records the begin and end of every call from now on
    GET /_recorded                                     those calls; the recording ends
    GET /_reset                                        restores the command line's behaviour, sets counts to 0

Timers of the event loop tick in milliseconds: a response comes up to 1 ms early or late.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import parse_qsl

import click
import orjson
import uvloop

from optimizely_api.comparison.stub.behaviour import (
    CLOSE_WITHOUT_RESPONSE,
    Behaviour,
    Counts,
    InvalidBehaviour,
)
from optimizely_api.comparison.stub.protocol import HEALTH, HttpProtocol, http_error, http_response
from optimizely_api.comparison.stub.responses import Responses
from optimizely_api.services_key import VARIABLE, authorization
from optimizely_api.serving.file_limits import allow_many_files

SERVICES: Final = ("projects", "experiments", "results")
BACKLOG = 4096


class Service:
    """One service: its responses, behaviour and counts."""

    def __init__(
        self, name: str, behaviour: Behaviour, responses: Responses, seed: int, key: str = ""
    ) -> None:
        self.name = name
        self.authorization = authorization(key)["Authorization"].encode() if key else b""
        self.behaviour = behaviour
        self.counts = Counts()
        self.calls: list[dict[str, Any]] | None = None  # recorded while it is a list
        self._responses = responses
        self._random = random.Random(f"{seed} {name}")  # noqa: S311

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        """The bytes to send (none to close the connection instead) and the delay in seconds.

        /healthz always responds at once.
        """
        if target == HEALTH:
            return self._responses.get(self.name, method, target), 0.0
        behaviour, counts = self.behaviour, self.counts
        counts.requests += 1
        delay = behaviour.delay_ms / 1000
        if behaviour.tail_share and self._random.random() < behaviour.tail_share:
            counts.slow += 1
            delay *= behaviour.tail_factor
        if behaviour.fail_share and self._random.random() < behaviour.fail_share:
            counts.failed += 1
            return _failure(behaviour.fail_status), delay
        return self._responses.get(self.name, method, target), delay


class ServiceProtocol(HttpProtocol):
    """A connection to one of the services."""

    def __init__(self, service: Service, open_connections: set[HttpProtocol]) -> None:
        super().__init__(open_connections)
        self._service = service
        self._authorization = service.authorization
        self._call: dict[str, Any] | None = None

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        if self._service.calls is not None and target != HEALTH:
            self._call = {
                "request_id": self._request_id.decode("latin-1"),
                "service": self._service.name,
                "path": target.decode("latin-1"),
                "begin": time.monotonic(),
                "end": None,
            }
            self._service.calls.append(self._call)
        return self._service.respond(method, target)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        counts = self._service.counts
        counts.connections += 1
        counts.most_connections = max(counts.most_connections, counts.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.counts.connections -= 1
        if self._later is not None:
            self._service.counts.abandoned += 1
        super().connection_lost(exc)

    def _write(self, response: bytes) -> None:
        if self._call is not None:
            self._call["end"], self._call = time.monotonic(), None
        if response and self._transport is not None:
            self._service.counts.answered += 1
        super()._write(response)


class StubServer:
    """The three services and their control port."""

    def __init__(self, behaviour: Behaviour, *, fan_out: int = 1, seed: int = 1, key: str = "") -> None:
        """With a `key` the services respond 401 to calls without it, as the real ones do."""
        if fan_out < 1:
            raise InvalidBehaviour(f"fan_out is at least 1, not {fan_out}")
        self._initial_behaviour = behaviour
        responses = Responses(fan_out)
        self.services = {name: Service(name, behaviour, responses, seed, key) for name in SERVICES}
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._open: set[HttpProtocol] = set()

    async def start(self, ports: Sequence[int], control_port: int | None, host: str = "127.0.0.1") -> None:
        """Listen on the ports (0: any free port, then in `self.ports`); raises OSError for a port in use."""
        try:
            for name, port in zip(SERVICES, ports, strict=True):
                await self._listen(name, host, port, self._protocol(self.services[name]))
            if control_port is not None:
                await self._listen("control", host, control_port, lambda: ControlProtocol(self, self._open))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the ports and the connections, without sending pending responses."""
        for server in self._servers:
            server.close()
        for protocol in list(self._open):
            protocol.abort()
        for server in self._servers:
            await server.wait_closed()

    def set(self, changes: Sequence[tuple[str, str]]) -> None:
        """Apply all changes, or none if one is invalid.

        A change is of one service, ("results.delay_ms", "2000"), or of all, ("delay_ms", "20").
        """
        changed = {name: service.behaviour for name, service in self.services.items()}
        for key, text in changes:
            service, dot, setting = key.rpartition(".")
            if dot and service not in changed:
                raise InvalidBehaviour(f"there is no service {service}; there are {', '.join(SERVICES)}")
            for name in (service,) if dot else SERVICES:
                changed[name] = changed[name].changed(setting, text)
        for name, behaviour in changed.items():
            self.services[name].behaviour = behaviour

    def record(self) -> None:
        """Record every call from now on."""
        for service in self.services.values():
            service.calls = []

    def recorded(self) -> list[dict[str, Any]]:
        """Stop recording; the calls with their begin and end (of `time.monotonic`), in the order of their begin."""
        calls = [call for service in self.services.values() for call in service.calls or ()]
        for service in self.services.values():
            service.calls = None
        return sorted(calls, key=lambda call: float(call["begin"]))

    def reset(self) -> None:
        """Restore the initial behaviour and set all counts but those of open connections to 0."""
        for service in self.services.values():
            service.behaviour = self._initial_behaviour
            open_now = service.counts.connections
            service.counts = Counts(connections=open_now, most_connections=open_now)

    def stats(self) -> dict[str, Any]:
        return {
            name: {**asdict(service.counts), "behaviour": asdict(service.behaviour)}
            for name, service in self.services.items()
        }

    def _protocol(self, service: Service) -> Callable[[], asyncio.Protocol]:
        return lambda: ServiceProtocol(service, self._open)

    async def _listen(self, name: str, host: str, port: int, make: Callable[[], asyncio.Protocol]) -> None:
        server = await asyncio.get_running_loop().create_server(make, host, port, backlog=BACKLOG)
        self._servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]


class ControlProtocol(HttpProtocol):
    """A connection to the control port: /_set, /_stats, /_record, /_recorded and /_reset."""

    def __init__(self, stub: StubServer, open_connections: set[HttpProtocol]) -> None:
        super().__init__(open_connections)
        self._stub = stub

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        path, _, query = target.decode("latin-1").partition("?")
        if method != b"GET":
            return http_error(405, "method_not_allowed"), 0.0
        if path == "/_set":
            try:
                self._stub.set(parse_qsl(query, keep_blank_values=True))
            except InvalidBehaviour as exc:
                return http_error(400, "bad_request", str(exc)), 0.0
        elif path == "/_reset":
            self._stub.reset()
        elif path == "/_record":
            self._stub.record()
        elif path == "/_recorded":
            return http_response(200, self._stub.recorded()), 0.0
        elif path != "/_stats":
            return http_error(404, "not_found"), 0.0
        return http_response(200, self._stub.stats()), 0.0


def _failure(status: int) -> bytes:
    return b"" if status == CLOSE_WITHOUT_RESPONSE else http_error(status, "failed_on_purpose")


async def _serve(stub: StubServer, ports: Sequence[int], control_port: int | None) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stub.start(ports, control_port)
    try:
        click.echo(orjson.dumps(stub.ports).decode())
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await stub.stop()


def _ports(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    ports = text.split(",")
    if len(ports) != len(SERVICES) or not all(port.isdigit() and int(port) < 65536 for port in ports):
        raise click.BadParameter(f"{len(SERVICES)} port numbers with commas between them")
    return tuple(int(port) for port in ports)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--ports", callback=_ports, default="0,0,0", help="Of projects, experiments, results; 0: any free port."
)
@click.option(
    "--control-port", type=click.IntRange(0, 65535), help="The port to change behaviour and read counts."
)
@click.option("--delay-ms", type=float, default=50.0, show_default=True, help="From request to response.")
@click.option("--tail-share", type=float, default=0.0, show_default=True, help="Share of slower calls.")
@click.option("--tail-factor", type=float, default=10.0, show_default=True, help="How many times slower.")
@click.option("--fail-share", type=float, default=0.0, show_default=True, help="Share of failing calls.")
@click.option(
    "--fail-status", type=int, default=503, show_default=True, help="Their status; 0 closes the connection."
)
@click.option("--fan-out", type=int, default=1, show_default=True, help="Experiments in each campaign.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which calls are slow or fail.")
def main(ports: tuple[int, ...], control_port: int | None, fan_out: int, seed: int, **behaviour: Any) -> None:
    """Run a stub of the three services. It prints their ports as one line of JSON once all listen."""
    allow_many_files()
    try:
        key = os.environ.get(VARIABLE, "")
        stub = StubServer(Behaviour(**behaviour), fan_out=fan_out, seed=seed, key=key)
        uvloop.run(_serve(stub, ports, control_port))
    except InvalidBehaviour as exc:
        raise click.UsageError(str(exc)) from None
    except OSError as exc:
        raise click.ClickException(str(exc)) from None


if __name__ == "__main__":
    main()
