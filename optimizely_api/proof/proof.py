"""The order of a proof: start, right answers, load and faults, recovery, report."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from optimizely_api.comparison.rig.processes import CpuTimes, Process
from optimizely_api.comparison.rig.run import temporary_folder, until_signalled
from optimizely_api.contract import load
from optimizely_api.proof.account import (
    VISITORS_A_BATCH,
    answered,
    batch,
    counted,
    creation,
    creation_of,
)
from optimizely_api.proof.faults import plan, regular_plan
from optimizely_api.proof.injection import INTERRUPTIONS, Injector
from optimizely_api.proof.judge import Judge, Question, Received, Verdict
from optimizely_api.proof.load import Caller, ask_at_rate, write
from optimizely_api.proof.logs import log_lines
from optimizely_api.proof.memory import MemoryWatch
from optimizely_api.proof.options import Options
from optimizely_api.proof.rig import DEADLINE_SECONDS, Rig, running_rig
from optimizely_api.proof.tally import Tally
from optimizely_api.serving.file_limits import allow_many_files

PROGRESS_SECONDS: Final = 10.0
RECOVERY_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.1
Say = Callable[[str], None]


@dataclass
class Proof:
    """What a proof has found so far; `recovered_seconds` is None until every answer is fresh again."""

    options: Options
    tally: Tally = field(default_factory=Tally)
    injector: Injector | None = None
    caller: Caller | None = None
    attributes: int = 0
    batches: int = 0
    began: float = 0.0
    recovered_seconds: float | None = None
    falsified: dict[str, int] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    others_share: float | None = None
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def record(
        self, judge: Judge, question: Question, request_id: str, sent: float, received: Received
    ) -> Verdict:
        judgement = judge.verdict(question, request_id, received)
        faults = (
            {}
            if self.injector is None
            else {fault.kind: fault for fault in self.injector.between(sent, time.monotonic())}
        )
        interruption = next((INTERRUPTIONS[kind] for kind in INTERRUPTIONS if kind in faults), None)
        self.tally.record(
            judgement,
            question,
            received,
            at=sent - self.began,
            request_id=request_id,
            faults=faults,
            interruption=interruption,
        )
        return judgement[0]

    def document(self, *, finished: bool) -> dict[str, Any]:
        """The report."""
        happened = [] if self.injector is None else self.injector.happened
        stalls = None if self.caller is None else self.caller.stalls.histogram
        return {
            "started_at": self.started_at,
            "finished": finished,
            "seed": self.options.seed,
            "options": {
                "requests": self.options.requests,
                "rate": self.options.rate,
                "seconds": self.options.load_seconds,
                "faults": list(self.options.faults),
                "gap_seconds": self.options.gap_seconds,
                "every": dict(self.options.every),
                "gateways": self.options.gateways,
                "workers": self.options.workers,
            },
            "deadline_seconds": DEADLINE_SECONDS,
            **self.tally.to_json(),
            "written": {"attributes": self.attributes, "batches": self.batches},
            "recovered_seconds": self.recovered_seconds,
            "falsified": self.falsified,
            "memory": self.memory,
            "others_share": self.others_share,
            "stalls_p99_ms": stalls and stalls.percentile(99),
            "stalls_max_ms": stalls and stalls.max,
            "faults": [
                {
                    **each.fault.to_json(),
                    "began": round(each.began - self.began, 3),
                    "ended": round(each.ended - self.began, 3) if each.ended else None,
                }
                for each in happened
            ],
        }


def prove(proof: Proof, say: Say) -> bool:
    """Run the proof; return False when interrupted by Ctrl-C, TERM or HUP.

    `proof` is filled step by step. When this returns or raises, all processes that it started have ended. Raises
    CannotCompare, DemoError and NotAsMade where it cannot begin.
    """
    allow_many_files()
    with temporary_folder("prove-") as folder, asyncio.Runner() as runner:
        return runner.run(until_signalled(_prove(proof, folder, say)))


async def _prove(proof: Proof, folder: Path, say: Say) -> None:
    options = proof.options
    say(
        f"Starting three services, {options.gateways} gateways with {options.workers} workers each, and HAProxy."
    )
    async with running_rig(options, folder) as rig:
        questions = await answered(rig.account, rig.gateway_urls, f"127.0.0.1:{rig.port}")
        judge = Judge(load(), DEADLINE_SECONDS)
        proof.injector = Injector(rig, random.Random(options.seed))  # noqa: S311
        proof.began = time.monotonic()
        proof.caller = Caller("127.0.0.1", rig.port, judge, lambda *what: proof.record(judge, *what))
        cpu, memory = CpuTimes.now(), MemoryWatch(lambda: _groups(rig))
        say(f"Seed {options.seed}: {options.rate:g} requests/s for {options.load_seconds:.0f} s.")
        try:
            async with _in_background(proof.caller.stalls.watch(), memory.watch(), _show(proof, say)):
                await _load(proof, rig, questions)
                await _recover(proof, questions)
        finally:
            proof.falsified, proof.memory = _falsified(rig), memory.to_json()
            proof.others_share = CpuTimes.now().since(cpu).others_share
            await proof.caller.close()
            _add_log_lines(proof, rig)


async def _load(proof: Proof, rig: Rig, questions: list[Question]) -> None:
    """Ask, write, and carry out the faults, until the last request and the last fault have ended."""
    assert proof.caller is not None and proof.injector is not None  # noqa: S101, PT018
    options, caller = proof.options, proof.caller
    seconds, gateways, seed = options.load_seconds, options.gateways, options.seed
    if options.every:
        faults = regular_plan(options.every, seconds, gateways, seed)
    else:
        faults = plan(options.faults, seconds, options.gap_seconds, gateways, seed)

    def made(_: Question, received: Received) -> None:
        proof.attributes += 1
        questions.append(creation_of(rig.account, received.body))

    def counted_once(_: Question, __: Received) -> None:
        proof.batches += 1

    stopping, run = asyncio.Event(), options.seed
    writers = (
        write(caller, lambda number: creation(rig.account, number, run), made, stopping),
        write(caller, lambda number: batch(rig.account, number, run), counted_once, stopping),
    )
    async with _in_background(*writers) as writing:
        async with asyncio.TaskGroup() as group:
            group.create_task(proof.injector.carry_out(faults))
            chance = random.Random(f"{options.seed}:questions")  # noqa: S311
            requests = round(options.load_seconds * options.rate)
            group.create_task(ask_at_rate(caller, questions, options.rate, requests, chance))
        stopping.set()
        await asyncio.wait(writing, timeout=RECOVERY_SECONDS)
    await caller.settle()
    if proof.batches:
        questions.append(counted(rig.account, VISITORS_A_BATCH * proof.batches))


async def _recover(proof: Proof, questions: list[Question]) -> None:
    """Ask each question until its answer is fresh; what was acknowledged must be there."""
    assert proof.caller is not None  # noqa: S101
    began = time.monotonic()
    waiting = list(questions)
    while waiting and time.monotonic() - began < RECOVERY_SECONDS:
        question = waiting[-1]
        verdict, _ = await proof.caller.ask(question)
        if verdict is Verdict.FRESH or verdict.is_bad:
            waiting.pop()
        else:
            await asyncio.sleep(PAUSE_SECONDS)
    if not waiting:
        proof.recovered_seconds = round(time.monotonic() - began, 3)


async def _show(proof: Proof, say: Say) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        tally = proof.tally
        fresh = tally.verdicts[Verdict.FRESH] / tally.judged if tally.judged else 0.0
        happened = [] if proof.injector is None else proof.injector.happened
        lasting = sorted({each.fault.kind for each in happened if not each.ended})
        say(
            f"{time.monotonic() - proof.began:6.0f} s  {tally.judged:,} judged, {tally.bad:,} bad, "
            f"{100 * fresh:.0f} % fresh, {len(happened)} faults; now: {', '.join(lasting) or 'none'}"
        )


@contextlib.asynccontextmanager
async def _in_background(*work: Any) -> Any:
    """Do the work while the block runs, then cancel it."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _groups(rig: Rig) -> dict[str, list[Process]]:
    """Whose memory is sampled."""
    return {
        "gateways": [gateway.running_process for gateway in rig.gateways],
        "services": [*rig.services.processes.values()],
    }


def _add_log_lines(proof: Proof, rig: Rig) -> None:
    """Let each bad response have what the gateways' logs and access logs say under its request id."""
    processes = [gateway.running_process for gateway in rig.gateways]
    logs = [log for process in processes for log in (process.log, process.output)]
    found = log_lines(logs, {example["request_id"] for example in proof.tally.examples})
    for example in proof.tally.examples:
        example["log"] = found[example["request_id"]]


def _falsified(rig: Rig) -> dict[str, int]:
    """How many responses of the services each kind of fault has falsified."""
    kinds = sorted({kind for proxy in rig.proxies.values() for kind in proxy.counts})
    return {kind: sum(proxy.counts.get(kind, 0) for proxy in rig.proxies.values()) for kind in kinds}
