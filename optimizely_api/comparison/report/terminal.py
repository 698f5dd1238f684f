"""Progress in the terminal while a comparison runs."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.statements import share_text, why_left_out
from optimizely_api.comparison.rig.modes import Mode
from optimizely_api.comparison.rig.run import Progress, steps
from optimizely_api.comparison.scenarios import TITLES, Outcome


class ProgressBar(Progress):
    """A progress bar over all scenarios, and a line for each scenario that has ended."""

    def __init__(self, console: Console, bars: Bars, task: TaskID) -> None:
        self._console = console
        self._bars = bars
        self._task = task

    def doing(self, mode: Mode, scenario: str, what: str) -> None:
        self._bars.update(self._task, description=f"{mode.title}: {TITLES[scenario]} {what}")

    def done(self, mode: Mode, scenario: str, outcome: Outcome) -> None:
        self._bars.advance(self._task)
        self._console.print(
            f"{mode.title}: {TITLES[scenario]}: {outcome_text(scenario, outcome)}",
            highlight=False,
            markup=False,
        )


@contextlib.contextmanager
def progress_bar(options: Options, console: Console) -> Iterator[ProgressBar]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield ProgressBar(console, bars, bars.add_task("starting", total=steps(options)))


def outcome_text(scenario: str, outcome: Outcome) -> str:
    """A scenario's outcome in a few words."""
    if scenario == "one":
        return f"{outcome['median_ms']:.0f} ms"
    if scenario == "cpu":
        return f"{outcome['answers_per_second']:.0f} answers/s"
    if scenario == "search":
        return f"{outcome['highest_rate']:g}/s"
    if reasons := why_left_out(scenario, outcome):
        return f"left out, {reasons[0]}"
    p99 = outcome["percentiles_ms"]["99"]
    return (
        f"{share_text(outcome['error_share'])} 5XX or no response, p99 {p99:.0f} ms"
        if p99 is not None
        else "nothing was answered"
    )
