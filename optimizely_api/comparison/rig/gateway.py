"""Runs one mode's gateway: starts it, replaces its workers, reads its watchdog's log and stops it."""

import asyncio
import http.client
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.rig.modes import Mode, ini_text
from optimizely_api.comparison.rig.processes import POLL_SECONDS, Process, Usage

LONGEST_START_SECONDS = 90.0
BETWEEN_SIGNALS_SECONDS = 0.3  # two signals of one kind that arrive together count as one
SETTLE_SECONDS = 1.5
# A gateway that uses all processors must not slow down the load generator, the balancer and the upstreams.
LOWER_PRIORITY = ("nice", "-n", "5")
PROMPT_SECONDS = 0.5
FIRST_REQUESTS = 20
FIRST_RESPONSE_SECONDS = 5.0

_STALL = re.compile(r"(the event loop is held for more than.*)\n((?: .*\n)*)")
_LASTED = re.compile(r"the event loop was held for about ([0-9.]+) s")
_FOLDERS = re.compile(
    r'(?<=File ")[^"]*/(?=(?:optimizely_api|site-packages|python[0-9.]+)/)'
)  # of the machine


@dataclass(frozen=True)
class Target:
    """The request that all clients send to the gateway: a path, and headers with a token that the upstreams know."""

    path: str
    headers: Mapping[str, str]


class Gateway:
    """gunicorn with a mode's application and worker class, on a fixed port."""

    def __init__(
        self,
        mode: Mode,
        options: Options,
        folder: Path,
        port: int,
        settings: Mapping[str, str],
        target: Target,
        *,
        workers: int | None = None,
    ) -> None:
        """`workers` are the mode's own number, or that of the options."""
        self.mode = mode
        self.port = port
        self.target = target
        self._workers = workers or mode.workers(options.workers)
        self._folder = folder
        self._ready = folder / "ready"
        self._ini = folder / f"{mode.name}.ini"
        self._text = ini_text(
            mode,
            port=port,
            workers=self._workers,
            threads=options.threads,
            settings=settings,
            ready_folder=str(self._ready),
        )
        self._process: Process | None = None

    async def start(self) -> float:
        """Start it, wait until every worker has loaded its application, and return the duration in seconds."""
        self._ini.write_text(self._text)
        self.forget_workers()
        started = time.monotonic()
        # This configuration reads gunicorn's settings from the ini file's server section.
        command = [
            *LOWER_PRIORITY,
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "gunicorn",
            "-c",
            "python:optimizely_api.runtime.server.ini_section",
        ]
        self._process = Process(self.mode.name, [*command, "--paste", str(self._ini)], self._folder)
        while self.ready_workers() < self._workers:
            if not self._process.running or time.monotonic() - started > LONGEST_START_SECONDS:
                self._give_up("did not start")
            await asyncio.sleep(POLL_SECONDS)
        for _ in range(FIRST_REQUESTS):
            if self._status(FIRST_RESPONSE_SECONDS) == 200:
                return time.monotonic() - started
            await asyncio.sleep(POLL_SECONDS)
        return self._give_up(f"gives no good response to GET {self.target.path}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(grace_seconds=0.5)

    async def settle(self) -> bool:
        """Wait a moment for an overloaded gateway to recover; if it does not, restart it and return True."""
        deadline = time.monotonic() + SETTLE_SECONDS
        prompt_responses = 0
        while time.monotonic() < deadline:
            prompt_responses = prompt_responses + 1 if self._status(PROMPT_SECONDS) else 0
            if prompt_responses > self._workers:
                return False
            await asyncio.sleep(POLL_SECONDS)
        self.stop()
        await self.start()
        return True

    async def replace_workers(self, *, rolling: bool) -> None:
        """Replace the workers; return when the new ones can serve. Old workers finish their requests.

        With `rolling`, one worker after the other is added (TTIN), and an old one ends (TTOU) when it can serve.
        Otherwise HUP: gunicorn ends blocking workers while the new ones are still importing the application; the
        gateway's end when the new ones listen.
        """
        self.forget_workers()
        if not rolling:
            self.running_process.send_signal(signal.SIGHUP)
        for number in range(1, self._workers + 1):
            if rolling:
                self.running_process.send_signal(signal.SIGTTIN)
            async with asyncio.timeout(LONGEST_START_SECONDS):
                while self.ready_workers() < number:  # noqa: ASYNC110 - they are other processes
                    await asyncio.sleep(POLL_SECONDS)
            if rolling:
                self.running_process.send_signal(signal.SIGTTOU)
                await asyncio.sleep(BETWEEN_SIGNALS_SECONDS)

    def forget_workers(self) -> None:
        self._ready.mkdir(exist_ok=True)
        for marker in self._ready.iterdir():
            marker.unlink()

    def ready_workers(self) -> int:
        """How many workers have loaded their application since `forget_workers`."""
        return sum(1 for _ in self._ready.iterdir())

    @property
    def running_process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the gateway was not started")
        return self._process

    def usage(self) -> Usage:
        return self.running_process.usage()

    def watchdog(self) -> dict[str, Any]:
        """The watchdog's log so far, also of earlier gateways of the mode."""
        return watchdog(self.running_process.log.read_text(encoding="utf-8", errors="replace"))

    def _give_up(self, what: str) -> NoReturn:
        self.stop()
        raise CannotCompare(f"The gateway ({self.mode.title}) {what}:\n{self.running_process.tail()}")

    def _status(self, timeout_seconds: float) -> int | None:
        """The status of the response to `target`; None without a response in time."""
        try:
            return get("127.0.0.1", self.port, self.target, timeout_seconds)
        except (OSError, http.client.HTTPException):
            return None


def watchdog(log: str) -> dict[str, Any]:
    """What a log has of the watchdog: the number of stalls, the longest one, and the commonest warning."""
    durations = [float(seconds) for seconds in _LASTED.findall(log)]
    return {
        "stalls": len(_STALL.findall(log)),
        "longest_seconds": max(durations, default=None),
        "commonest_warning": commonest_warning(log),
    }


def commonest_warning(log: str) -> list[str]:
    """The watchdog's commonest warning with the innermost frames of its stack; [] without a warning.

    Not the first: on a busy machine a loop is also held while its worker starts.
    """
    found = Counter(_STALL.findall(log)).most_common(1)
    return [
        line
        for (warning, stack), _ in found
        for line in (warning, *(_FOLDERS.sub("", frame) for frame in stack.splitlines()[-4:]))
    ]


def get(
    host: str, port: int, target: Target, timeout_seconds: float, headers: Mapping[str, str] | None = None
) -> int:
    """Send one request on a new connection, with further headers if there are any, and return the status."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        sent = {**target.headers, "Connection": "close", **(headers or {})}
        connection.request("GET", target.path, headers=sent)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
