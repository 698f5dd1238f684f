"""Run the composite through outages of its services on virtual time, and check at every step what must hold.

python -m tests.simulate
"""

import gc
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click

from tests.simulate.steps import Broken
from tests.simulate.worker import Outcome, Plan, simulate

HOURS = 3600.0


def run(plan: Plan) -> Outcome | str:
    """Run a plan in a process of its own; a string is the broken invariant."""
    gc.freeze()  # what was imported is not looked through again and again
    gc.set_threshold(50_000)
    try:
        return simulate(plan, partial(print, file=sys.stderr, flush=True))
    except Broken as broken:
        return str(broken)


def command(plan: Plan) -> str:
    """What runs this plan again, alone."""
    hours = f"{plan.seconds / HOURS:g}"
    return f"python -m tests.simulate --seed {plan.seed} --requests {plan.requests} --hours {hours} --processes 1"


def report(outcomes: list[Outcome]) -> None:
    """Print the figures of all processes."""
    requests = sum(outcome.plan.requests for outcome in outcomes)
    counted = sum((outcome.outcomes for outcome in outcomes), Counter[str]())
    for name, number in counted.most_common():
        click.echo(f"{number:>12,} {name}")
    hours = sum(outcome.plan.seconds for outcome in outcomes) / HOURS
    failing = sum(outcome.outage_seconds for outcome in outcomes) / HOURS
    outages = sum(outcome.outages for outcome in outcomes)
    click.echo(f"{requests:,} requests in {hours:g} hours, with {outages:,} outages of {failing:.1f} hours")
    calls, attempts = sum(one.calls for one in outcomes), sum(one.attempts for one in outcomes)
    events = ", ".join(
        f"{number:,} {name}"
        for name, number in sum((one.events for one in outcomes), Counter[str]()).most_common()
    )
    click.echo(f"{calls:,} calls to services, {attempts:,} attempts; {events}")
    first_good = [seconds for outcome in outcomes for seconds in outcome.first_good]
    recoveries = [seconds for outcome in outcomes for seconds in outcome.recoveries]
    click.echo(
        f"{len(first_good):,} returns of services; where calls came at least every quarter of a second"
        f" ({len(recoveries):,}), all was as before after {max(recoveries, default=0.0):.2f} s"
    )
    for outcome in outcomes:
        click.echo(f"seed {outcome.plan.seed}: digest {outcome.digest}")


@click.command(help=__doc__)
@click.option("--requests", default=1_000_000, show_default=True, help="Of all processes together.")
@click.option("--hours", default=24.0, show_default=True, help="Of virtual time, in each process.")
@click.option("--seed", type=int, help="Of the first process; the others count on. By default a random one.")
@click.option(
    "--processes", type=click.IntRange(1), default=os.cpu_count(), help="One for each processor by default."
)
def main(requests: int, hours: float, seed: int | None, processes: int) -> None:
    """Exit status 0: everything held. 1: something did not; the message names the seed, the time and the last steps."""
    started = time.monotonic()
    seed = int.from_bytes(os.urandom(3)) if seed is None else seed
    click.echo(f"seed {seed}")
    plans = [Plan(seed + number, requests // processes, hours * HOURS) for number in range(processes)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        outcomes = list(pool.map(run, plans))
    broken = [(plan, one) for plan, one in zip(plans, outcomes, strict=True) if isinstance(one, str)]
    for plan, what in broken:
        click.echo(f"BROKEN, seed {plan.seed}: {what}\nagain: {command(plan)}")
    report([outcome for outcome in outcomes if isinstance(outcome, Outcome)])
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    click.echo(f"{time.monotonic() - started:.1f} s, {used:.1f} s of CPU")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
