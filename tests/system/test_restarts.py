"""Callers notice no restart: 200 new connections and 100 requests on kept ones a second, straight and by balancers.

In short each restart happens once, under load by the three ways together; RESTARTS_EACH=20 has it happen twenty times
for each way, which carries the whole load.
"""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from tests.support.serving import serve
from tests.system.balancers import balancer
from tests.system.restarts_load import Load

pytestmark = pytest.mark.slow

EACH = int(os.environ.get("RESTARTS_EACH", "0"))
WAYS = ("straight", "haproxy", "nginx")
ROUNDS = [[way] for way in WAYS for _ in range(EACH)] if EACH else [list(WAYS)]
LONGEST_WAIT_SECONDS = 1.0
LONGEST_RESTART_SECONDS = 90
BEFORE_SECONDS = AFTER_SECONDS = 0.5

rounds = pytest.mark.parametrize("ways", ROUNDS, ids=lambda ways: "+".join(ways))


@contextlib.contextmanager
def reached(ways, tmp_path, gateways):
    """The ports by which the gateways are reached; straight is the first alone."""
    ports = [gateway.port for gateway in gateways]
    with contextlib.ExitStack() as stack:
        yield [
            ports[0] if way == "straight" else stack.enter_context(balancer(way, tmp_path, ports))
            for way in ways
        ]


@contextlib.contextmanager
def gateway(tmp_path, name, *options):
    """A gateway of two workers; what fails while it runs shows how it is and what it logged."""
    with serve("main", {}, tmp_path / name, "--workers", "2", *options) as served:
        try:
            yield served
        except BaseException as exc:
            lines = [line for line in served.log.read_text().splitlines() if '"method"' not in line]
            status = served.process.poll()
            how = "runs" if status is None else f"has ended with status {status}"
            exc.add_note("\n".join([f"The gateway {name!r} {how}. It logged, its access log aside:", *lines]))
            raise


def count(served, text):
    return served.log.read_text().count(text)


async def until(condition):
    async with asyncio.timeout(LONGEST_RESTART_SECONDS):
        while not condition():
            await asyncio.sleep(0.05)


async def answered(served, workers=2):
    """All workers listen."""
    await until(lambda: count(served, "Gateway worker listening") >= workers)


def report(what, ways, load):
    print(
        f"{what} {'+'.join(ways)}: {load.outcomes.total()} requests, {load.longest_seconds:.2f} s the longest"
    )


@rounds
async def test_hup_is_not_noticed(ways, tmp_path):
    with gateway(tmp_path, "log") as served, reached(ways, tmp_path, [served]) as ports:
        await answered(served)
        async with Load(ports) as load:
            await asyncio.sleep(BEFORE_SECONDS)
            served.process.send_signal(signal.SIGHUP)
            began = time.monotonic()
            await until(lambda: count(served, "Worker shutting down") == 2)
            took = time.monotonic() - began
            await asyncio.sleep(AFTER_SECONDS)
        report("HUP", ways, load)
        assert load.failures == {}
        # Of a busy machine everything is slow: there a gap would be as long as most of the restart.
        assert load.longest_seconds < max(LONGEST_WAIT_SECONDS, took / 4)


@rounds
async def test_max_requests_is_not_noticed(ways, tmp_path):
    options = ("--max-requests", "300", "--workers", "1")  # nobody else is there meanwhile
    with gateway(tmp_path, "log", *options) as served, reached(ways, tmp_path, [served]) as ports:
        await answered(served, workers=1)
        async with Load(ports) as load:
            await until(lambda: count(served, "Worker shutting down") >= 1)
            await asyncio.sleep(AFTER_SECONDS)
        report("max_requests", ways, load)
        assert load.failures == {}


@rounds
async def test_term_of_one_of_two_gateways_is_not_noticed(ways, tmp_path):
    with gateway(tmp_path, "ends") as ends, gateway(tmp_path, "stays") as stays:
        await answered(ends)
        await answered(stays)
        with reached(ways, tmp_path, [ends, stays]) as ports:
            async with Load(ports, may_be_refused=[ends.port]) as load:
                await asyncio.sleep(BEFORE_SECONDS)
                ends.process.send_signal(signal.SIGTERM)
                await until(lambda: ends.process.poll() is not None)
                await asyncio.sleep(AFTER_SECONDS)
        report("TERM", ways, load)
        assert load.failures == {}
        assert ends.process.returncode == 0
