"""What a proof says of memory: that of a group's processes with all descendants, at the beginning and at the end."""

import asyncio
import sys

from optimizely_api.comparison.rig.processes import Process
from optimizely_api.proof import memory
from optimizely_api.proof.memory import MemoryWatch

GROWN_BYTES = 40_000_000
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
CHILD = f"""
import pathlib, time
pathlib.Path("ready").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.01)
grown = b"x" * {GROWN_BYTES}
pathlib.Path("grown").touch()
time.sleep(60)
"""


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_growth_of_a_descendant_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SAMPLE_SECONDS", 0.01)
    process = Process("grows", [sys.executable, "-c", PARENT, CHILD], tmp_path)
    try:
        await until((tmp_path / "ready").exists)
        sampled = []
        watch = MemoryWatch(lambda: sampled.append(1) or {"services": [process]})
        watching = asyncio.create_task(watch.watch())
        await until(lambda: len(sampled) > 5)
        (tmp_path / "go").touch()
        await until((tmp_path / "grown").exists)
        before = len(sampled)
        await until(lambda: len(sampled) > before + 5)
        watching.cancel()
    finally:
        process.stop()
    found = watch.to_json()["services"]
    assert found["last_bytes"] - found["first_bytes"] > 0.9 * GROWN_BYTES
    assert found["most_bytes"] >= found["last_bytes"]


async def test_a_process_that_has_ended_takes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SAMPLE_SECONDS", 0.01)
    process = Process("ends", [sys.executable, "-c", ""], tmp_path)
    await until(lambda: not process.running)
    sampled = []
    watch = MemoryWatch(lambda: sampled.append(1) or {"services": [process]})
    watching = asyncio.create_task(watch.watch())
    await until(lambda: len(sampled) > 1)
    watching.cancel()
    assert watch.to_json()["services"]["most_bytes"] == 0
