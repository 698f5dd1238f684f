"""Carries out a plan of faults on a rig. Every fault ends by itself, or when the injection is cancelled."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.rig.processes import POLL_SECONDS, Process
from optimizely_api.proof.faults import KINDS, Fault
from optimizely_api.proof.rig import Rig

RELOAD_SECONDS: Final = 2.0  # how long the requests count as sent during a reload
STOP_SECONDS: Final = 8.0  # how long a service may take to stop
LONGEST_START_SECONDS: Final = 60.0  # of a service that ends again and again
AGAIN_SECONDS: Final = 1.0
FULL_AT_BYTES: Final = 4096  # all databases are larger; a write-ahead log grows beyond it at once


@dataclass
class Happened:
    """A fault that was carried out; times are those of `time.monotonic`, `ended` is 0 while it lasts."""

    fault: Fault
    began: float
    ended: float = 0.0

    def overlaps(self, begin: float, end: float) -> bool:
        return self.began <= end and (not self.ended or self.ended >= begin)


class Injector:
    """Carries out faults; `happened` lists those that have begun."""

    def __init__(self, rig: Rig, chance: random.Random) -> None:
        self.happened: list[Happened] = []
        self._rig = rig
        self._chance = chance
        self._locks = {name: asyncio.Lock() for name in rig.proxies}
        self._kinds: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill-worker": self._kill_worker,
            "freeze-worker": self._freeze_worker,
            "reload": self._reload,
            "kill-service": self._kill_service,
            "freeze-service": self._freeze_service,
            "restart-service": self._restart_service,
            "full-disk": self._full_disk,
        }

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """Begin each fault at its time; return when all have ended."""
        zero = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, zero + fault.at - time.monotonic()))
                group.create_task(self._one(fault))

    def between(self, begin: float, end: float) -> Iterator[Fault]:
        """The faults that lasted at some moment of this time."""
        return (each.fault for each in self.happened if each.overlaps(begin, end))

    async def _one(self, fault: Fault) -> None:
        kind = KINDS[fault.kind]
        # A service that is being started again is not killed meanwhile.
        turn = self._locks[fault.target] if fault.kind in _STARTS_AGAIN else contextlib.nullcontext()
        async with turn:
            happened = Happened(fault, time.monotonic())
            self.happened.append(happened)
            try:
                await (self._falsify if kind.of_responses else self._kinds[fault.kind])(fault)
            finally:
                happened.ended = time.monotonic()

    async def _falsify(self, fault: Fault) -> None:
        proxy = self._rig.proxies[fault.target]
        proxy.on(fault)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            proxy.off(fault)

    async def _kill_worker(self, fault: Fault) -> None:
        pid = await self._worker(fault)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def _freeze_worker(self, fault: Fault) -> None:
        pid = await self._worker(fault)
        with _stopped(lambda number: os.kill(pid, number)):
            await asyncio.sleep(fault.seconds)

    async def _worker(self, fault: Fault) -> int:
        """The process id of a worker of the fault's gateway."""
        gateway = self._rig.gateways[int(fault.target)]
        while True:
            if pids := await asyncio.to_thread(_children, gateway.running_process.pid):
                return self._chance.choice(pids)
            await asyncio.sleep(POLL_SECONDS)

    async def _reload(self, fault: Fault) -> None:
        self._rig.gateways[int(fault.target)].running_process.send_signal(signal.SIGHUP)
        await asyncio.sleep(RELOAD_SECONDS)

    async def _kill_service(self, fault: Fault) -> None:
        process, proxy = self._rig.services.processes[fault.target], self._rig.proxies[fault.target]
        process.send_signal_to_all(signal.SIGKILL)
        proxy.refuse()
        await _ended(process)
        await asyncio.sleep(fault.seconds)
        await self._start(fault.target)

    async def _restart_service(self, fault: Fault) -> None:
        process, proxy = self._rig.services.processes[fault.target], self._rig.proxies[fault.target]
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await _ended(process)
        process.send_signal_to_all(signal.SIGKILL)
        proxy.refuse()
        await _ended(process)
        await asyncio.sleep(fault.seconds)
        await self._start(fault.target)

    async def _start(self, name: str) -> None:
        """Start a service, and again where it ends: its disk may be full at that moment. So would a process manager."""
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while True:
            self._rig.services.start(name)
            try:
                await self._rig.services.until_listening(name)
                break
            except CannotCompare:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)
        await self._rig.proxies[name].listen()

    async def _freeze_service(self, fault: Fault) -> None:
        process = self._rig.services.processes[fault.target]
        with _stopped(process.send_signal_to_all):
            await asyncio.sleep(fault.seconds)

    async def _full_disk(self, fault: Fault) -> None:
        process = self._rig.services.processes[fault.target]
        await asyncio.to_thread(_limit_files, process.pid, FULL_AT_BYTES)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            _limit_files(process.pid, None)


_STARTS_AGAIN: Final = frozenset({"kill-service", "restart-service"})
INTERRUPTIONS: Final = {
    "kill-worker": "in flight in a killed worker",
    "freeze-worker": "in flight in a frozen worker",
}


@contextlib.contextmanager
def _stopped(send: Callable[[signal.Signals], Any]) -> Iterator[None]:
    """Stop a process, or several, while the block runs; one that has ended needs nothing."""
    with contextlib.suppress(ProcessLookupError):
        send(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            send(signal.SIGCONT)


async def _ended(process: Process) -> None:
    while process.running:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(POLL_SECONDS)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def _limit_files(pid: int, soft: int | None) -> None:
    """Limit the size of files that a process and its descendants write; None for as large as they may be."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(each.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(each.pid, resource.RLIMIT_FSIZE, (hard if soft is None else soft, hard))
