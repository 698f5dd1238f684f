"""`optimizely-api compare`: options, progress in the terminal, and the report."""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from optimizely_api.comparison.options import RESTARTS, SCENARIOS, CannotCompare, Options
from optimizely_api.comparison.rig.modes import MODES, USUAL

NEEDED = ("mako", "psutil")  # the extra `compare`
INTERRUPTED = 130
DEFAULTS = {field.name: field.default for field in fields(Options)}

Command = Callable[..., Any]

if TYPE_CHECKING:
    from optimizely_api.comparison.rig.run import Results


def _number(
    name: str, text: str, *, least: float = 0.0, most: float | None = None, above: bool = False
) -> Any:
    """An option for a number of `Options`, by its name there."""
    default: Any = DEFAULTS[name]
    kind: Any = (
        click.IntRange(int(least), None if most is None else int(most))
        if isinstance(default, int)
        else click.FloatRange(least, most, min_open=above)
    )
    return click.option(
        f"--{name.replace('_', '-')}", type=kind, default=default, show_default=True, help=text
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULTS["output"],
    show_default=True,
    help="Folder for report.json and report.html.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="A smoke test in less than 60 seconds: every mode serves a growing load; no ratios.",
)
@click.option(
    "--modes",
    callback=lambda _context, _option, text: _modes(text),
    default=",".join(USUAL),
    show_default=True,
    metavar="A,B,C",
    help=f"Which modes, in this order. There are also: {', '.join(name for name in MODES if name not in USUAL)}.",
)
@_number(
    "repeat", "How often everything but the single events is measured, each time with new gateways.", least=1
)
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(SCENARIOS),
    multiple=True,
    help="Only these; may be repeated.",
)
@click.option(
    "--upstreams",
    type=click.Choice(["stub", "real"]),
    default=DEFAULTS["upstreams"],
    show_default=True,
    help="The gateway's upstreams: a light stub with a known delay, or the three services with demo data.",
)
@click.option(
    "--balancer/--no-balancer",
    default=True,
    show_default=True,
    help="HAProxy in front, which must be installed; without it the load generator counts the 5XX.",
)
@_number("workers", "gunicorn worker processes, the same in every mode.", least=1, most=64)
@_number("threads", "Threads of a worker in the mode `threads`.", least=1, most=512)
@_number("delay_ms", "The delay of the stub's responses.")
@_number("tail_share", "Share of the stub's responses that are slower.", most=1.0)
@_number("tail_factor", "How many times slower those are.", least=1.0)
@_number("fail_share", "Share of the stub's responses that are 503.", most=1.0)
@_number("fan_out", "Request a campaign with this many experiments instead of one experiment.", most=100)
@_number("timeout_seconds", "How long the balancer waits for a response before its 504.", above=True)
@_number("objective_ms", "The limit for the p99 at a rate that holds.", above=True)
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    default=DEFAULTS["arrivals"],
    show_default=True,
    help="Requests at equal intervals, or at random ones.",
)
@_number("seed", "The seed of all random numbers.")
@_number("trial_seconds", "How long a rate must hold in the search.", above=True)
@_number("ramp_from", "Requests per second at which the growing load begins.", above=True)
@_number("ramp_to", "Requests per second at which it ends.", above=True)
@_number("ramp_seconds", "How long it grows.", least=1)
@_number(
    "rate", "The most that all modes get as one equal rate; less where a mode cannot carry it.", above=True
)
@_number(
    "share",
    "Share of a mode's own highest rate for steady loads, events and recoveries.",
    most=1.0,
    above=True,
)
@_number("overload_seconds", "How long each overload lasts.", least=1)
@_number("slow_delay_ms", "How long the slow upstream takes.")
@_number("slow_seconds", "How long it is slow, and how long the blocking view is called.", least=1)
@click.option(
    "--restart",
    type=click.Choice(RESTARTS),
    default=DEFAULTS["restart"],
    show_default=True,
    help="New workers first (TTIN, TTOU), or HUP, at which blocking workers end while the new ones start.",
)
@_number("cpu_ms", "Computing per request, where nothing but computing is measured.", above=True)
@_number("blocking_ms", "How long the blocking view holds the event loop.", above=True)
@_number("blocking_rate", "Calls of the blocking view per second.", above=True)
@click.option(
    "--diff",
    nargs=2,
    metavar="OLD.json NEW.json",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing; list which figures of the two reports differ by more than their spread.",
)
def compare(quick: bool, diff: tuple[Path, Path] | None, **chosen: Any) -> None:
    """Compare blocking and asyncio on this machine: 5XX, latency and the highest rate of every mode.

    The real gateway runs under gunicorn in its original form (multiprocessing on sync workers), with threads (gthread),
    with coroutines (asyncio), and with coroutines and one view that blocks them; behind HAProxy, in front of upstreams
    with a known delay. Requests are sent at fixed rates, whether or not earlier responses have come. All modes are
    measured in turn, several times. The comparison takes about 20 minutes, the smoke test --quick less than 60 seconds.
    It is most accurate on an otherwise idle machine. Servers use free ports of 127.0.0.1.

    Ctrl-C stops all processes; the report has the measurements until then. The report lists what it leaves out, with
    the reason: a measurement in which the load generator fell behind, a restart that outlasted the load.

    Exit status: 0, a report was made, whatever it leaves out, or two reports were compared; 1, the comparison could not
    run or failed, with a report only of what was measured before; 2, a wrong option; 130, interrupted.
    """
    console = Console()
    try:
        if diff:
            _print_differences(*diff, console)
            return
        options = _options(quick, chosen)
        _refuse_without_extra(options)
        sys.exit(run_comparison(options, console))
    except CannotCompare as exc:
        raise click.ClickException(str(exc)) from None


def run_comparison(options: Options, console: Console) -> int:
    """Measure, print the table, write the report, and return the exit status.

    0 when the report is complete, 130 when it was interrupted. What was left out is in the report and has no status.
    """
    from optimizely_api.comparison.report.terminal import progress_bar
    from optimizely_api.comparison.rig.run import Results, compare_modes

    began = datetime.now(UTC)
    results = Results()
    try:
        with progress_bar(options, console) as progress:
            finished = compare_modes(options, results, progress)
    except BaseException:
        # After any failure the measurements until then are reported.
        if results.trials:
            _report(options, results, began, console, finished=False)
        raise
    return _report(options, results, began, console, finished=finished)


def _report(
    options: Options, results: "Results", began: datetime, console: Console, *, finished: bool
) -> int:
    from optimizely_api.comparison.report import report as reporting
    from optimizely_api.comparison.report.page import write_page
    from optimizely_api.comparison.report.statements import SMOKE_TEST, disturbed, plain_words
    from optimizely_api.comparison.report.table import rich_table

    document = reporting.document(options, results, began, interrupted=not finished)
    data = reporting.write_json(document, options.output)
    page = write_page(document, options.output)
    if options.quick:
        console.print(SMOKE_TEST)
    console.print(rich_table(document))
    for sentence in plain_words(document):
        console.print(f"- {sentence}", highlight=False, markup=False)
    for sentence in disturbed(document):
        console.print(sentence, highlight=False, markup=False)
    for sentence in document["summary"]["left_out"]:
        console.print(f"Left out: {sentence}", highlight=False, markup=False)
    if not finished:
        console.print("Interrupted: the report has the measurements until then. All processes have ended.")
    console.print(f"Report    {page}\nFigures   {data}", soft_wrap=True, highlight=False, markup=False)
    return 0 if finished else INTERRUPTED


def _print_differences(old: Path, new: Path, console: Console) -> None:
    from optimizely_api.comparison.report.difference import differences

    for sentence in differences(_read(old), _read(new)):
        console.print(sentence, highlight=False, markup=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise CannotCompare(f"{path} is not JSON: {exc}") from None
    return report


def _modes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in MODES]:
        raise click.BadParameter(f"there is no mode {unknown[0]!r}; there are {', '.join(MODES)}")
    if len(set(names)) < len(names):
        raise click.BadParameter("a mode is named twice")
    return names


def _options(quick: bool, chosen: dict[str, Any]) -> Options:
    """The options from the command line; raises CannotCompare for an invalid combination."""
    options = Options(**{**chosen, "scenarios": chosen["scenarios"] or SCENARIOS})
    if options.ramp_to < options.ramp_from:
        raise CannotCompare(f"--ramp-to {options.ramp_to:g} is less than --ramp-from {options.ramp_from:g}.")
    if options.upstreams == "real" and options.fan_out:
        raise CannotCompare("--fan-out needs the stub: the demo data has campaigns of its own sizes.")
    return options.shortened() if quick else options


def _refuse_without_extra(options: Options) -> None:
    _refuse_without("A comparison", NEEDED, "compare")
    for name in options.modes:
        if needed := MODES[name].needs:
            _refuse_without(f"The mode {name}", (needed,), needed)


def _refuse_without(what: str, needed: Sequence[str], extra: str) -> None:
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotCompare(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'optimizely_api[{extra}]'  (in a checkout: pip install -e '.[{extra}]')"
        )


__all__ = ["compare", "run_comparison"]
