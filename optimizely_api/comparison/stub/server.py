"""A light stub of the three services, so that what a load measures is the gateway.

    python -m optimizely_api.comparison.stub.server --ports 6551,6552,6553 --control-port 6550 --delay-ms 50

One process, one event loop, no framework: some 50 microseconds of CPU an answer. Every answer comes after the delay;
a share of them (the tail) after a multiple of it, and a share of the calls fails. All of that changes at run time:

    GET /_set?results.delay_ms=2000&tail_share=0.05    a key without a service's name sets all three
    GET /_stats                                        what was asked for and what came of it, per service
    GET /_reset                                        back to the command line's manners, counts at 0

The timers of the event loop tick in milliseconds: an answer comes up to 1 ms early or late.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import parse_qsl

import click
import orjson
import uvloop

from optimizely_api.comparison.stub.behaviour import CLOSE_WITHOUT_ANSWER, Counts, InvalidManners, Manners
from optimizely_api.comparison.stub.protocol import HEALTH, HttpProtocol, http_answer, http_error
from optimizely_api.comparison.stub.responses import Answers
from optimizely_api.services_key import VARIABLE
from optimizely_api.serving.file_limits import allow_many_files

SERVICES: Final = ("projects", "experiments", "results")
BACKLOG = 4096


class Service:
    """One service: what it knows, how it behaves, what happened."""

    def __init__(self, name: str, manners: Manners, answers: Answers, seed: int, key: str = "") -> None:
        self.name = name
        # As the gateways write it.
        self.authorization = f"\r\nAuthorization: Bearer {key}\r\n".encode() if key else b""
        self.manners = manners
        self.counts = Counts()
        self._answers = answers
        self._random = random.Random(f"{seed} {name}")  # noqa: S311

    def answer(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        """The bytes to send, empty to close instead, and the seconds until then; /healthz is always well."""
        if target == HEALTH:
            return self._answers.find(self.name, method, target), 0.0
        manners, counts = self.manners, self.counts
        counts.requests += 1
        delay = manners.delay_ms / 1000
        if manners.tail_share and self._random.random() < manners.tail_share:
            counts.slow += 1
            delay *= manners.tail_factor
        if manners.fail_share and self._random.random() < manners.fail_share:
            counts.failed += 1
            return _failure(manners.fail_status), delay
        return self._answers.find(self.name, method, target), delay


class ServiceProtocol(HttpProtocol):
    """A connection to one of the services."""

    def __init__(self, service: Service, open_connections: set[HttpProtocol]) -> None:
        super().__init__(open_connections)
        self._service = service
        self._authorization = service.authorization

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        return self._service.answer(method, target)

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

    def _write(self, answer: bytes) -> None:
        if answer and self._transport is not None:
            self._service.counts.answered += 1
        super()._write(answer)


class Stub:
    """The three services and the control of them."""

    def __init__(self, manners: Manners, *, fan_out: int = 1, seed: int = 1, key: str = "") -> None:
        """With a `key` calls without it are refused, as the services refuse them."""
        if fan_out < 1:
            raise InvalidManners(f"fan_out is at least 1, not {fan_out}")
        self._manners = manners
        answers = Answers(fan_out)
        self.services = {name: Service(name, manners, answers, seed, key) for name in SERVICES}
        self.ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._open: set[HttpProtocol] = set()

    async def start(self, ports: Sequence[int], control_port: int | None, host: str = "127.0.0.1") -> None:
        """Listen; port 0 is any free one, and `ports` of the stub says which. Raises OSError for one that is taken."""
        try:
            for name, port in zip(SERVICES, ports, strict=True):
                await self._listen(name, host, port, self._protocol(self.services[name]))
            if control_port is not None:
                await self._listen("control", host, control_port, lambda: ControlProtocol(self, self._open))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the ports, and the connections with all that is on the way."""
        for server in self._servers:
            server.close()
        for protocol in list(self._open):
            protocol.abort()
        for server in self._servers:
            await server.wait_closed()

    def set(self, changes: Sequence[tuple[str, str]]) -> None:
        """Change manners, ("results.delay_ms", "2000") or of all services ("delay_ms", "20"): all changes or none."""
        changed = {name: service.manners for name, service in self.services.items()}
        for key, text in changes:
            service, dot, setting = key.rpartition(".")
            if dot and service not in changed:
                raise InvalidManners(f"there is no service {service}; there are {', '.join(SERVICES)}")
            for name in (service,) if dot else SERVICES:
                changed[name] = changed[name].changed(setting, text)
        for name, manners in changed.items():
            self.services[name].manners = manners

    def reset(self) -> None:
        """The manners of the start; counts at 0, but for connections that are open."""
        for service in self.services.values():
            service.manners = self._manners
            now = service.counts.connections
            service.counts = Counts(connections=now, most_connections=now)

    def stats(self) -> dict[str, Any]:
        return {
            name: {**asdict(service.counts), "manners": asdict(service.manners)}
            for name, service in self.services.items()
        }

    def _protocol(self, service: Service) -> Callable[[], asyncio.Protocol]:
        return lambda: ServiceProtocol(service, self._open)

    async def _listen(self, name: str, host: str, port: int, make: Callable[[], asyncio.Protocol]) -> None:
        server = await asyncio.get_running_loop().create_server(make, host, port, backlog=BACKLOG)
        self._servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]


class ControlProtocol(HttpProtocol):
    """Answers /_set, /_stats and /_reset."""

    def __init__(self, stub: Stub, open_connections: set[HttpProtocol]) -> None:
        super().__init__(open_connections)
        self._stub = stub

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        path, _, query = target.decode("latin-1").partition("?")
        if method != b"GET":
            return http_error(405, "method_not_allowed"), 0.0
        if path == "/_set":
            try:
                self._stub.set(parse_qsl(query, keep_blank_values=True))
            except InvalidManners as exc:
                return http_error(400, "bad_request", str(exc)), 0.0
        elif path == "/_reset":
            self._stub.reset()
        elif path != "/_stats":
            return http_error(404, "not_found"), 0.0
        return http_answer(200, self._stub.stats()), 0.0


def _failure(status: int) -> bytes:
    return b"" if status == CLOSE_WITHOUT_ANSWER else http_error(status, "failed_on_purpose")


async def _serve(stub: Stub, ports: Sequence[int], control_port: int | None) -> None:
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
    "--ports", callback=_ports, default="0,0,0", help="Of projects, experiments, results; 0: any free one."
)
@click.option(
    "--control-port", type=click.IntRange(0, 65535), help="Where manners are changed and counts read."
)
@click.option("--delay-ms", type=float, default=50.0, show_default=True, help="From request to answer.")
@click.option("--tail-share", type=float, default=0.0, show_default=True, help="Of calls that are slower.")
@click.option("--tail-factor", type=float, default=10.0, show_default=True, help="By how much they are.")
@click.option("--fail-share", type=float, default=0.0, show_default=True, help="Of calls that fail.")
@click.option("--fail-status", type=int, default=503, show_default=True, help="How; 0 closes the connection.")
@click.option("--fan-out", type=int, default=1, show_default=True, help="Experiments in each campaign.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is slow and what fails.")
def main(ports: tuple[int, ...], control_port: int | None, fan_out: int, seed: int, **manners: Any) -> None:
    """Answer as the three services would. The first line on standard output says where, as JSON, once all listen."""
    allow_many_files()
    try:
        key = os.environ.get(VARIABLE, "")
        stub = Stub(Manners(**manners), fan_out=fan_out, seed=seed, key=key)
        uvloop.run(_serve(stub, ports, control_port))
    except InvalidManners as exc:
        raise click.UsageError(str(exc)) from None
    except OSError as exc:
        raise click.ClickException(str(exc)) from None


if __name__ == "__main__":
    main()
