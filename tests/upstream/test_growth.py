"""Many calls at once: none fails, each needs little memory, and the benchmark of the client runs."""

import asyncio
import resource
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from optimizely_api.upstream.client import CallContext, open_client
from tests.upstream import benchmark_client

PAGE_BYTES = resource.getpagesize()


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


@pytest.mark.slow
async def test_ten_thousand_calls_wait_at_once_in_less_than_20_kb_each(many_files):
    count = min(10_000, many_files - 500)
    context = CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + 60)
    with benchmark_client.stub(delay_seconds=5) as upstreams:
        async with open_client(upstreams, benchmark_client.LIMITS, benchmark_client.SHAPES) as client:
            before = resident_bytes()
            work = [asyncio.create_task(client.fetch(benchmark_client.FIRST, context)) for _ in range(count)]
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            held = resident_bytes() - before
            values = await asyncio.gather(*work)
    assert len(values) == count
    assert held / count < 20_000


def test_the_benchmark_compares_both_clients(many_files):
    outcome = CliRunner().invoke(benchmark_client.main, ["--in-flight", "2", "--rounds", "1"])
    assert outcome.exit_code == 0, outcome.output
    in_flight, before, _, after, *_ = outcome.output.splitlines()[1].split()
    assert in_flight == "2"
    assert float(before) > 0 < float(after)
