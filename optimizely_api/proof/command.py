"""`optimizely-api prove`: options, progress and report."""

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.demo import DemoError
from optimizely_api.proof.faults import KINDS, USUAL
from optimizely_api.proof.options import NotAsMade, Options

INTERRUPTED = 130
FOUND_BAD = 3


def _kinds(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        _check_kind(name)
    return names


def _intervals(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    intervals = {}
    for text in texts:
        name, _, seconds = text.partition("=")
        _check_kind(name)
        try:
            intervals[name] = float(seconds)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not KIND=SECONDS, such as kill-worker=5") from None
        if not intervals[name] > 0:
            raise click.BadParameter(f"{text!r}: the seconds must be more than 0")
    return intervals


def _check_kind(name: str) -> None:
    if name not in KINDS:
        raise click.BadParameter(f"there is no fault {name!r}; there are {', '.join(KINDS)}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--requests", type=click.IntRange(1), default=Options.requests, show_default=True, help="How many."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=Options.rate,
    show_default=True,
    help="Requests per second.",
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Send requests for no longer than this."
)
@click.option(
    "--seed", type=click.IntRange(0), help="The seed of faults and questions.  [default: a random one]"
)
@click.option(
    "--faults",
    callback=_kinds,
    default=",".join(USUAL),
    show_default=True,
    help="Kinds of faults, with commas between them.",
)
@click.option(
    "--gap-seconds",
    type=click.FloatRange(0, min_open=True),
    default=Options.gap_seconds,
    show_default=True,
    help="Mean time from the beginning of one fault to that of the next.",
)
@click.option(
    "--every",
    callback=_intervals,
    multiple=True,
    metavar="KIND=SECONDS",
    help="A fault of this kind at this interval, in place of faults at random times; may be repeated.",
)
@click.option("--gateways", type=click.IntRange(1, 8), default=Options.gateways, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    default=Options.workers,
    show_default=True,
    help="Of each gateway.",
)
@click.option(
    "--balancer",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Options.balancer,
    show_default=True,
    help="HAProxy's settings; their port and servers are replaced.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Options.output,
    show_default=True,
    help="File for the report in JSON: counts, intervals, faults with their times, examples.",
)
def prove(seed: int | None, **chosen: Any) -> None:
    """Show how many responses are bad while everything breaks, on this machine.

    Gateways behind HAProxy serve requests at a constant rate, in front of the three services on new databases with a
    small account. Faults of every kind begin at random times and overlap. Each response is judged: in contract, right,
    not later than the deadline and 100 ms, and a 5XX with its reason (a 503 with Retry-After). Requests in flight in a
    worker that is killed or frozen are counted apart. Servers use free ports of 127.0.0.1; Linux only.

    Ctrl-C stops all processes; the report has the responses until then.

    Exit status: 0, no response was bad; 1, the proof could not run; 2, a wrong option; 3, some responses were bad, or
    not all were right a minute after the last fault; 130, interrupted.
    """
    console = Console()
    if importlib.util.find_spec("psutil") is None:
        raise click.ClickException("A proof needs psutil: pip install 'optimizely_api[compare]'")
    if not chosen["balancer"].exists():
        raise click.UsageError(
            f"There is no {chosen['balancer']} here: run this in the checkout, or name one with --balancer."
        )
    options = Options(seed=random.randrange(2**31) if seed is None else seed, **chosen)  # noqa: S311
    try:
        sys.exit(run_proof(options, console))
    except (CannotCompare, DemoError, NotAsMade) as exc:
        raise click.ClickException(str(exc)) from None


def run_proof(options: Options, console: Console) -> int:
    """Run the proof, print and write the report, and return the exit status."""
    from optimizely_api.proof.proof import Proof
    from optimizely_api.proof.proof import prove as run
    from optimizely_api.proof.tally import summary, write_json

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    proof, finished = Proof(options), False
    try:
        finished = run(proof, say)
    finally:
        if proof.tally.judged:
            document = proof.document(finished=finished)
            write_json(document, options.output)
            for line in summary(document):
                say(line)
            say(f"Report    {options.output}")
    if not finished:
        say("Interrupted: the report has the responses until then. All processes have ended.")
        return INTERRUPTED
    return FOUND_BAD if proof.tally.bad or proof.recovered_seconds is None else 0
