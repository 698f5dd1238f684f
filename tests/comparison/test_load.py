"""The generator against a server of known behaviour: it keeps the rate, shows a stall, and hides no failure."""

import asyncio
import contextlib
import re
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from optimizely_api.comparison.load.client import ConnectionPool, Request
from optimizely_api.comparison.load.command import (
    FELL_BEHIND,
    INTERRUPTED,
    LoadFailed,
    LoadPlan,
    LoadResult,
    main,
    run_load,
    run_load_process,
)
from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.comparison.load.result import BAD, LATE, NO_CONNECTION, REFUSED, RESET, TIMEOUT, Tally
from optimizely_api.comparison.load.run import LoadRun
from tests.comparison.known_server import KnownServer, known_server
from tests.comparison.undisturbed import undisturbed
from tests.support.ports import free_port

SOON_SECONDS = 20


def adds_up(tally: Tally) -> bool:
    """Every request that came due had exactly one end."""
    ends = tally.answered + tally.failed + tally.unsent.total() + tally.unfinished
    return tally.offered == ends and tally.latency.count == tally.answered + tally.failed


def percentile(histogram: Histogram, percent: float) -> float:
    found = histogram.percentile(percent)
    assert found is not None
    return found


async def closed_loop(port: int, seconds: float) -> Histogram:
    """What a generator measures that sends its next request when the last answer has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = Histogram()
    end = time.monotonic() + seconds
    while (sent := time.monotonic()) < end:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"{}")
        latencies.record_us(int((time.monotonic() - sent) * 1e6))
    writer.close()
    await writer.wait_closed()
    return latencies


async def test_a_stall_of_2_seconds_shows_in_the_percentiles_and_a_closed_loop_hides_it(
    tmp_path: Path,
) -> None:
    """200 requests/s for 4 s are 800; 400 of them, one half, come due in the stall of 2 s.

    Those wait for its end: the first 2,000 ms, the last 0 ms, evenly spread. So in theory
      p40    5 ms, an answer outside the stall;
      p75    the slowest quarter is half of the stalled: due in its first 1,000 ms, so 1,000 ms;
      p99    the slowest 8 were due in its first 40 ms, so 1,960 ms;
      above 500 ms  due in the first 1,500 ms: 300 of 800, 37.5 %.
    A closed loop of one connection asks some 360 times in the other 2 s and once in the stall: 0.3 %, which p99 hides.
    """
    async with known_server(delay_seconds=0.005) as server:
        plan = LoadPlan(server.url, [(200, 4.0)])

        async def stall_once() -> None:
            await server.reached(100)
            server.stall(2.0)

        async def closed_beside() -> Histogram:
            await server.reached(1)  # the process of the load takes a while to start
            return await closed_loop(server.port, 4.0)

        loaded, closed, _ = await asyncio.gather(
            run_load_process(plan, tmp_path / "load.json"), closed_beside(), stall_once()
        )
    latency = loaded.total().latency
    print(f"open loop {latency}, closed loop {closed}")
    assert (loaded.total().offered, loaded.total().by_class()) == (800, {"2xx": 800})
    assert percentile(latency, 40) < 200
    assert percentile(latency, 75) == pytest.approx(1000, abs=120)
    assert percentile(latency, 99) == pytest.approx(1960, abs=120)
    assert latency.share_above_ms(500) == pytest.approx(0.375, abs=0.02)
    assert closed.count > 150
    assert percentile(closed, 99) < 200
    assert closed.max == pytest.approx(2000, abs=100)


@pytest.mark.parametrize("rate", [100, 500, 1000])
async def test_the_achieved_rate_is_within_1_percent_of_the_offered(rate: int, tmp_path: Path) -> None:
    async with known_server() as server:
        plan = LoadPlan(server.url, [(rate, 2.0)], warm_up_seconds=0.2)
        result = await undisturbed(plan, tmp_path)
    total = result.total()
    print(f"achieved {result.achieved_rate}, lag {total.lag}, {result.cpu_seconds:.2f} s CPU")
    assert result.offered_rate == rate
    assert result.achieved_rate == pytest.approx(rate, rel=0.01)
    assert total.by_class() == {"2xx": 2 * rate}
    assert server.seen.total() % round(2.2 * rate) == 0
    assert 4 < percentile(total.latency, 50) < 60


async def test_poisson_arrivals_keep_their_rate_too(tmp_path: Path) -> None:
    async with known_server() as server:
        plan = LoadPlan(server.url, [(500, 1.0)], arrivals="poisson", seed=3)
        result = await undisturbed(plan, tmp_path)
    assert result.total().offered == len(list(plan.due_times()))
    assert result.achieved_rate == pytest.approx(result.offered_rate, rel=0.01)


async def test_every_phase_and_second_has_its_own_figures() -> None:
    async with known_server() as server:
        result = await run_load(LoadPlan(server.url, [(100, 1.0), (50, 1.5)], warm_up_seconds=0.3))
    places = [(each.start, each.end, each.phase, each.tally.offered) for each in result.slices]
    assert places == [(0, 1, 0, 100), (1, 2, 1, 50), (2, 2.5, 1, 25)]
    assert result.of_phase(1).offered == 75
    assert all(adds_up(each.tally) for each in result.slices)
    assert result.warm_up.offered == 30
    assert abs(result.started_at + 2.5 - time.time()) < 2


async def test_each_kind_of_end_is_counted_once_and_as_what_it_is() -> None:
    paths = [
        "/",
        "/status/404",
        "/status/502",
        "/status/503",
        "/status/504",
        "/close",
        "/cut",
        "/bad",
        "/never",
    ]
    async with known_server() as server:
        plan = LoadPlan(server.url, [(180, 1.0)], paths=paths, timeout_seconds=0.4)
        result = await run_load(plan)
    total = result.total()
    assert total.statuses == Counter({200: 20, 404: 20, 502: 20, 503: 20, 504: 20})
    assert total.failures == Counter({RESET: 40, BAD: 20, TIMEOUT: 20})
    assert total.server_errors() == {502: 20 + 40 + 20, 503: 20, 504: 20 + 20}
    assert adds_up(total)


async def test_answers_of_every_framing_are_understood() -> None:
    paths = ["/", "/chunked", "/until-close", "/last", "/status/204"]
    async with known_server() as server:
        result = await run_load(LoadPlan(server.url, [(200, 0.5)], paths=paths))
    assert result.total().statuses == Counter({200: 80, 204: 20})


async def test_a_timeout_is_a_failure_whose_latency_is_the_limit() -> None:
    async with known_server() as server:
        result = await run_load(LoadPlan(server.url, [(50, 0.4)], paths=["/never"], timeout_seconds=0.3))
        await asyncio.wait_for(server.all_closed(), SOON_SECONDS)
    total = result.total()
    assert total.failures == Counter({TIMEOUT: 20})
    assert (total.latency.min, total.latency.max) == (300.0, 300.0)
    assert total.ok.count == 0


async def test_an_answer_that_comes_after_the_limit_is_a_timeout() -> None:
    async with known_server(delay_seconds=0.3) as server:
        result = await run_load(LoadPlan(server.url, [(50, 0.4)], timeout_seconds=0.2))
    assert result.total().failures == Counter({TIMEOUT: 20})


async def test_a_closed_port_refuses() -> None:
    result = await run_load(LoadPlan(f"http://127.0.0.1:{free_port()}", [(100, 0.5)]))
    assert result.total().failures == Counter({REFUSED: 50})
    assert result.total().server_errors() == {503: 50}


async def test_a_connection_that_never_comes_about_is_a_timeout_and_is_given_up() -> None:
    with socket.socket() as deaf, contextlib.ExitStack() as fillers:
        deaf.bind(("127.0.0.1", free_port()))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        for _ in range(3):  # nobody accepts: once the queue is full, the system drops what comes
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        begun = to_port(port)
        result = await run_load(LoadPlan(f"http://127.0.0.1:{port}", [(50, 0.4)], timeout_seconds=0.3))
        assert sorted(to_port(port)) == sorted(begun)
    assert result.total().failures == Counter({TIMEOUT: 20})
    assert result.most_connections < 20, "those given up make room"


async def test_a_kept_alive_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async with known_server() as server:
        result = await run_load(LoadPlan(server.url, [(100, 0.5)], paths=["/twice"]))
    total = result.total()
    assert total.by_class() == {"2xx": 50}
    assert total.retried > 0
    assert server.seen["/twice"] == 50 + total.retried


async def test_connections_are_kept_and_grow_only_as_needed() -> None:
    async with known_server(delay_seconds=0.05) as server:
        result = await run_load(LoadPlan(server.url, [(100, 1.0)]))
    # By Little's law 100/s x 0.05 s = 5 are in use at a time.
    assert 5 <= server.opened <= 40
    assert result.most_connections == server.opened


async def test_more_requests_than_connections_are_unsent_and_the_run_is_refused() -> None:
    async with known_server() as server:
        plan = LoadPlan(server.url, [(100, 0.5)], paths=["/never"], connections=10, timeout_seconds=1)
        result = await run_load(plan)
    total = result.total()
    assert (total.failures, total.unsent) == (Counter({TIMEOUT: 10}), Counter({NO_CONNECTION: 40}))
    assert server.opened == 10
    assert result.fell_behind
    assert "10 connections were not enough" in result.why_fell_behind()[0]


async def test_a_generator_that_was_held_up_says_so() -> None:
    async with known_server() as server:
        asyncio.get_running_loop().call_later(0.3, time.sleep, 0.2)
        result = await run_load(LoadPlan(server.url, [(200, 1.0)]))
    total = result.total()
    assert percentile(total.lag, 99) > 100
    assert result.fell_behind
    assert total.by_class() == {"2xx": 200}
    assert percentile(total.latency, 99) > 100, "its own delay is in the latencies, not taken out of them"


async def test_requests_over_a_second_late_are_not_sent_any_more() -> None:
    async with known_server() as server:
        asyncio.get_running_loop().call_later(0.1, time.sleep, 1.5)
        result = await run_load(LoadPlan(server.url, [(100, 2.0)]))
    assert result.total().unsent[LATE] == pytest.approx(50, abs=10)
    assert adds_up(result.total())


async def test_a_rate_that_no_machine_keeps_ends_with_status_3_and_says_why(tmp_path: Path) -> None:
    output = tmp_path / "load.json"
    async with known_server() as server:
        options = ["--rate", "100000", "--seconds", "1", "--timeout", "2", "--connections", "500"]
        process = await start(server, output, *options)
        said, _ = await process.communicate()
    assert process.returncode == FELL_BEHIND
    assert "Not fit to be reported: phase 0 (100000 requests/s):" in said.decode()
    assert re.search(r"\d+ requests were sent while 100000 were due", said.decode())
    result = LoadResult.read(output)
    assert result.fell_behind
    assert result.achieved_rate < 99_000
    assert adds_up(result.total())


async def test_nothing_is_left_open_afterwards() -> None:
    async with known_server() as server:
        before = asyncio.all_tasks()
        await run_load(LoadPlan(server.url, [(200, 0.5)], paths=["/", "/never"], timeout_seconds=0.2))
        assert asyncio.all_tasks() == before
        assert to_port(server.port) == []
        await asyncio.wait_for(server.all_closed(), SOON_SECONDS)


async def test_a_cancelled_run_leaves_nothing_open() -> None:
    async with known_server() as server:
        before = asyncio.all_tasks()
        task = asyncio.create_task(run_load(LoadPlan(server.url, [(200, 60.0)], paths=["/", "/never"])))
        await server.reached(50)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        assert to_port(server.port) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
async def test_ctrl_c_in_the_middle_leaves_a_valid_partial_result(number: int, tmp_path: Path) -> None:
    output = tmp_path / "load.json"
    async with known_server() as server:
        options = ["--rate", "100", "--seconds", "60", "--path", "/", "--path", "/never"]
        process = await start(server, output, *options)
        await server.reached(150)
        process.send_signal(number)
        await asyncio.wait_for(process.communicate(), SOON_SECONDS)
        await asyncio.wait_for(server.all_closed(), SOON_SECONDS)
    assert process.returncode == INTERRUPTED
    result = LoadResult.read(output)
    total = result.total()
    assert result.interrupted
    assert 140 <= total.offered < 1000
    # Those that are never answered, and on a busy machine some whose response is on its way.
    assert total.offered / 2 - 5 <= total.unfinished <= 0.75 * total.offered
    assert adds_up(total)
    assert len(result.slices) < 10


async def test_cancelling_the_wait_for_the_process_ends_it_and_keeps_the_partial_result(
    tmp_path: Path,
) -> None:
    output = tmp_path / "load.json"
    async with known_server() as server:
        task = asyncio.create_task(run_load_process(LoadPlan(server.url, [(100, 60.0)]), output))
        await server.reached(50)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert psutil.Process().children() == []
        await asyncio.wait_for(server.all_closed(), SOON_SECONDS)
    assert LoadResult.read(output).interrupted
    assert LoadResult.read(output).total().by_class()["2xx"] >= 40


async def test_a_process_without_a_result_fails_in_its_own_words(tmp_path: Path) -> None:
    plan = LoadPlan("http://no-such-host.invalid:1", [(1, 1)])
    with pytest.raises(LoadFailed, match="no-such-host"):
        await run_load_process(plan, tmp_path / "load.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--url or --plan is needed"),
        (["--url", "http://127.0.0.1:1"], "phases"),
        (["--url", "http://127.0.0.1:1", "--phase", "5"], "RATE:SECONDS"),
        (["--url", "http://127.0.0.1:1", "--rate", "1", "--seconds", "1", "--header", "x"], "NAME: VALUE"),
    ],
    ids=["no-url", "no-rate", "phase", "header"],
)
def test_wrong_options_are_explained(options: list[str], words: str, tmp_path: Path) -> None:
    said = CliRunner().invoke(main, [*options, "--output", str(tmp_path / "load.json")])
    assert said.exit_code == 2
    assert words in said.output


def test_the_command_line_makes_the_plan_that_it_says(tmp_path: Path) -> None:
    paths = tmp_path / "paths"
    paths.write_text("/b\n/c\n")
    port = free_port()
    options = (
        f"--url http://127.0.0.1:{port} --phase 40:0.1 --phase 20:0.2 --timeout 3 --seed 5 --arrivals poisson"
    )
    files = ["--path-list", str(paths), "--output", str(tmp_path / "load.json")]
    process = psutil.Popen(
        [
            sys.executable,
            "-m",
            "optimizely_api.comparison.load.command",
            *options.split(),
            *files,
            "--path",
            "/a",
            "--header",
            "X-A: b",
        ]
    )
    process.wait(SOON_SECONDS)
    assert LoadResult.read(tmp_path / "load.json").plan == LoadPlan(
        f"http://127.0.0.1:{port}",
        ((40.0, 0.1), (20.0, 0.2)),
        paths=("/a", "/b", "/c"),
        headers={"X-A": "b"},
        timeout_seconds=3.0,
        seed=5,
        arrivals="poisson",
    )


async def start(server: KnownServer, output: Path, *options: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "optimizely_api.comparison.load.command", "--url", server.url]
    return await asyncio.create_subprocess_exec(
        *command,
        "--output",
        str(output),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def to_port(port: int) -> list[str]:
    """The states of this process's connections to a port; a closed one may linger in the system, without an owner."""
    found = psutil.Process().net_connections("tcp")
    return [each.status for each in found if each.raddr and each.raddr.port == port]


async def test_a_connection_of_a_request_that_was_given_up_is_not_kept() -> None:
    # At this moment uvloop closes it without a notice, and a later request would be sent into nothing.
    async with known_server() as server:
        pool = ConnectionPool("127.0.0.1", server.port, 10, lambda *_: None)
        request = Request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        pool.send_on_new(request)
        request.done = True
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        await task
        assert not pool.idle
        assert not pool.connections
        await pool.close()


async def test_a_defect_ends_the_load_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_run: LoadRun, _now: float) -> None:
        raise RuntimeError("the handler is closed")

    monkeypatch.setattr(LoadRun, "_send_due", broken)
    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(RuntimeError, match="the handler is closed"):
            await run_load(LoadPlan(url=f"http://127.0.0.1:{free_port()}", phases=[(10, 1)]))
