"""Offer load to an HTTP server at a rate that does not depend on its responses (an open loop).

    python -m optimizely_api.comparison.load.command --url http://127.0.0.1:6543 --rate 500 --seconds 10

Every request has a due time, fixed before the first request is sent. Latency counts from the due time, so a stall of
the server increases the latency of all requests due meanwhile. Timers tick in milliseconds: a request leaves up to
about 2 ms after it was due. This delay is part of its latency and reported as `lag`.

Rules: without a complete response within the time limit a request is a `timeout`, and its latency is the limit.
`result` defines the failures `refused`, `reset` and `bad`, and `client` when a request is sent a second time. A request
that is more than a second late is not sent, and counts as a failure of the generator.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import click
import orjson
import uvloop

from optimizely_api.comparison.load.histogram import Histogram
from optimizely_api.comparison.load.plan import ARRIVALS, InvalidPlan, LoadPlan
from optimizely_api.comparison.load.result import LoadResult, Slice, Tally
from optimizely_api.comparison.load.run import LoadRun
from optimizely_api.serving.file_limits import allow_many_files

STOP_SECONDS = 10.0

FELL_BEHIND, INTERRUPTED = 3, 130  # exit statuses


class LoadFailed(Exception):
    """The load's process gave no result; the message is its error output."""


async def run_load(plan: LoadPlan) -> LoadResult:
    """Offer the load from the running event loop; if cancelled, close every connection without a result."""
    return await LoadRun(plan).run()


async def run_load_process(plan: LoadPlan, output: Path) -> LoadResult:
    """Offer the load from a separate process, which writes its result to `output`.

    If cancelled, stop the process and wait for its end; `output` then has the partial result. Raises LoadFailed when
    the process gives no result.
    """
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "optimizely_api.comparison.load.command",
            "--plan",
            "-",
            "--output",
            str(output),
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal must reach it only through `_end`
    )
    try:
        _, error_output = await process.communicate(orjson.dumps(plan.to_json()))
    finally:
        await _end(process)
    if process.returncode not in (0, FELL_BEHIND, INTERRUPTED):
        raise LoadFailed(
            error_output.decode(errors="replace").strip() or f"it ended with status {process.returncode}"
        )
    return LoadResult.read(output)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _run_until_signalled(plan: LoadPlan) -> LoadResult:
    run = LoadRun(plan)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    return await run.run()


@contextlib.contextmanager
def _without_collector_pauses() -> Iterator[None]:
    """Switch the cycle collector off: a collection would delay requests, and finished requests leave no cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="The server, as http://host:port.")
@click.option("--rate", type=float, help="Requests per second.")
@click.option("--seconds", type=float, help="How long to measure.")
@click.option(
    "--phase", "phases", multiple=True, metavar="RATE:SECONDS", help="In place of --rate and --seconds."
)
@click.option(
    "--warm-up", type=float, default=0.0, show_default=True, help="Seconds before it, not measured."
)
@click.option(
    "--timeout", type=float, default=10.0, show_default=True, help="Seconds until a request has failed."
)
@click.option("--connections", type=int, default=10_000, show_default=True, help="At most so many at once.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every request.")
@click.option("--path", "paths", multiple=True, help="Requested in turn.  [default: /]")
@click.option("--path-list", type=click.File(), help="A file with one path a line.")
@click.option("--arrivals", type=click.Choice(ARRIVALS), default="constant", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of Poisson arrivals.")
@click.option("--lag-bound-ms", type=float, default=50.0, show_default=True, help="p99 of sending late.")
@click.option("--plan", "plan_file", type=click.File("rb"), help="All of that as JSON; - is standard input.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON goes here."
)
def main(plan_file: IO[bytes] | None, output: Path, **options: Any) -> None:
    """Offer load at a fixed rate, whatever the server does, and write the result as JSON.

    Exit status 3: the generator did not keep the rate, and the figures are not fit to be reported. 130: interrupted
    by Ctrl-C or TERM; the output has the measurements until then.
    """
    try:
        plan = LoadPlan.from_json(orjson.loads(plan_file.read())) if plan_file else _plan(options)
    except (InvalidPlan, orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise click.UsageError(str(exc)) from None
    allow_many_files()
    with _without_collector_pauses(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            result = runner.run(_run_until_signalled(plan))
        except OSError as exc:
            raise click.ClickException(f"{plan.url}: {exc}") from None
    result.write(output)
    _print(result)
    sys.exit(INTERRUPTED if result.interrupted else FELL_BEHIND if result.fell_behind else 0)


def _plan(options: Mapping[str, Any]) -> LoadPlan:
    if not options["url"]:
        raise InvalidPlan("--url or --plan is needed")
    phases = [_phase(text) for text in options["phases"]]
    if options["rate"] is not None and options["seconds"] is not None and not phases:
        phases = [(options["rate"], options["seconds"])]
    listed = options["path_list"].read().split() if options["path_list"] else []
    return LoadPlan(
        url=options["url"],
        phases=phases,
        paths=[*options["paths"], *listed] or ["/"],
        headers=dict(_header(text) for text in options["headers"]),
        warm_up_seconds=options["warm_up"],
        timeout_seconds=options["timeout"],
        connections=options["connections"],
        arrivals=options["arrivals"],
        seed=options["seed"],
        lag_bound_ms=options["lag_bound_ms"],
    )


def _phase(text: str) -> tuple[float, float]:
    rate, colon, seconds = text.partition(":")
    try:
        return float(rate), float(seconds if colon else "")
    except ValueError:
        raise InvalidPlan(f"--phase {text}: a phase is RATE:SECONDS") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise InvalidPlan(f"--header {text}: a header is NAME: VALUE")
    return name.strip(), value.strip()


def _print(result: LoadResult) -> None:
    total = result.total()
    latency = total.latency
    click.echo(
        f"offered {result.offered_rate:.1f}/s, achieved {result.achieved_rate:.1f}/s, {total.by_class()}"
    )
    if latency.count:
        figures = [f"p{percent:g} {latency.percentile(percent):.1f} ms" for percent in (50, 90, 99, 99.9)]
        click.echo(f"{', '.join(figures)}, max {latency.max:.1f} ms")
    if total.failed:
        click.echo(f"failures {dict(total.failures)}, as 5XX {total.server_errors()}")
    if total.lag.count:
        click.echo(f"sent late: p99 {total.lag.percentile(99):.2f} ms, max {total.lag.max:.2f} ms")
    click.echo(f"CPU {result.cpu_seconds:.2f} s in {result.wall_seconds:.2f} s")
    for sentence in result.why_fell_behind():
        click.echo(f"Not fit to be reported: {sentence}", err=True)


__all__ = [
    "Histogram",
    "LoadFailed",
    "LoadPlan",
    "LoadResult",
    "Slice",
    "Tally",
    "run_load",
    "run_load_process",
]

if __name__ == "__main__":
    main()
