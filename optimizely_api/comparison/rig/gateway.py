"""One mode's gateway while it is measured: started, restarted, watched and ended."""

import asyncio
import http.client
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from optimizely_api.comparison.options import CannotCompare, Options
from optimizely_api.comparison.rig.modes import Mode, ini_text
from optimizely_api.comparison.rig.processes import POLL_SECONDS, Process, Usage

LONGEST_START_SECONDS = 90.0
BETWEEN_SIGNALS_SECONDS = 0.3  # two of a kind that arrive together are one
SETTLE_SECONDS = 1.5
# A gateway that takes all processors must not make the load, the balancer and the upstreams late.
LESS_URGENT = ("nice", "-n", "5")
PROMPT_SECONDS = 0.5
FIRST_REQUESTS = 20
FIRST_ANSWER_SECONDS = 5.0

_STALL = re.compile(r"the event loop is held for more than")
_LASTED = re.compile(r"the event loop was held for about ([0-9.]+) s")
_HOLDER = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')


@dataclass(frozen=True)
class Target:
    """What is asked of the gateway, by everybody: a path and a token that the upstreams know."""

    path: str
    headers: Mapping[str, str]


class Gateway:
    """gunicorn with a mode's application and worker class, on one port for as long as the mode is measured."""

    def __init__(
        self,
        mode: Mode,
        options: Options,
        folder: Path,
        port: int,
        settings: Mapping[str, str],
        target: Target,
    ) -> None:
        self.mode = mode
        self.port = port
        self.target = target
        self._workers = options.workers
        self._folder = folder
        self._ready = folder / "ready"
        self._ini = folder / f"{mode.name}.ini"
        self._text = ini_text(
            mode,
            port=port,
            workers=options.workers,
            threads=options.threads,
            settings=settings,
            ready_folder=str(self._ready),
        )
        self._process: Process | None = None

    async def start(self) -> float:
        """Start it, wait until every worker has its application, and return the seconds that took."""
        self._ini.write_text(self._text)
        self.forget_workers()
        started = time.monotonic()
        # The section's settings for gunicorn are obeyed by this configuration; there is none in the folder.
        command = [
            *LESS_URGENT,
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
            if self._status(FIRST_ANSWER_SECONDS) == 200:
                return time.monotonic() - started
            await asyncio.sleep(POLL_SECONDS)
        return self._give_up(f"gives no good answer to GET {self.target.path}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(grace_seconds=0.5)

    async def settle(self) -> bool:
        """Wait a moment for an overloaded gateway to come to itself; else start it anew and return True."""
        last = time.monotonic() + SETTLE_SECONDS
        prompt = 0
        while time.monotonic() < last:
            prompt = prompt + 1 if self._status(PROMPT_SECONDS) else 0
            if prompt > self._workers:
                return False
            await asyncio.sleep(POLL_SECONDS)
        self.stop()
        await self.start()
        return True

    async def replace_workers(self, *, rolling: bool) -> None:
        """Have new workers in place of the old ones, which finish what they have begun; returns when they can serve.

        Rolling, the old ones are told to leave (TTOU) when the new ones (TTIN) can serve. Otherwise by HUP, upon which
        gunicorn ends the old ones while the new ones are still importing the application.
        """
        self.forget_workers()
        if not rolling:
            self.running_process.tell(signal.SIGHUP)
        for _ in range(self._workers if rolling else 0):
            self.running_process.tell(signal.SIGTTIN)
            await asyncio.sleep(BETWEEN_SIGNALS_SECONDS)
        async with asyncio.timeout(LONGEST_START_SECONDS):
            while self.ready_workers() < self._workers:  # noqa: ASYNC110 - they are other processes
                await asyncio.sleep(POLL_SECONDS)
        for _ in range(self._workers if rolling else 0):
            self.running_process.tell(signal.SIGTTOU)
            await asyncio.sleep(BETWEEN_SIGNALS_SECONDS)

    def forget_workers(self) -> None:
        self._ready.mkdir(exist_ok=True)
        for marker in self._ready.iterdir():
            marker.unlink()

    def ready_workers(self) -> int:
        """How many workers have made their application since they were forgotten."""
        return sum(1 for _ in self._ready.iterdir())

    @property
    def running_process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the gateway was not started")
        return self._process

    def usage(self) -> Usage:
        return self.running_process.usage()

    def watchdog(self) -> dict[str, Any]:
        """What the event loop's watchdog has logged so far: how often, how long at most, and what held the loop."""
        text = self.running_process.log.read_text(encoding="utf-8", errors="replace")
        lasted = [float(seconds) for seconds in _LASTED.findall(text)]
        return {
            "stalls": len(_STALL.findall(text)),
            "longest_seconds": max(lasted, default=None),
            "said": first_stall(text),
        }

    def _give_up(self, what: str) -> NoReturn:
        self.stop()
        raise CannotCompare(f"The gateway ({self.mode.title}) {what}:\n{self.running_process.tail()}")

    def _status(self, timeout_seconds: float) -> int | None:
        """The status of the measured request; None when there is no answer in time."""
        try:
            return get("127.0.0.1", self.port, self.target, timeout_seconds)
        except (OSError, http.client.HTTPException):
            return None


def first_stall(text: str) -> list[str]:
    """The first warning of the watchdog, with the innermost frames of the stack that it saw; [] without one."""
    found = _STALL.search(text)
    if found is None:
        return []
    lines = text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()
    stack = []
    for line in lines[1:]:
        if not line.startswith(" "):
            break
        stack.append(line)
    return [lines[0][lines[0].find("the event loop") :], *stack[-4:]]


def get(host: str, port: int, target: Target, timeout_seconds: float) -> int:
    """Ask once, on a connection of its own, and return the status."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request("GET", target.path, headers={**target.headers, "Connection": "close"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
