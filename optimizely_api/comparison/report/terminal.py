"""Progress in the terminal while a comparison runs."""

import contextlib
from collections.abc import Iterator
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.figures import share_text
from optimizely_api.comparison.rig.modes import Mode
from optimizely_api.comparison.rig.run import Progress, steps
from optimizely_api.comparison.scenarios import TITLES, Trial


class ProgressBar(Progress):
    """A progress bar over all scenarios, and a line for each scenario that has ended."""

    def __init__(self, console: Console, bars: Bars, task: TaskID) -> None:
        self._console = console
        self._bars = bars
        self._task = task

    def doing(self, mode: Mode, scenario: str, what: str) -> None:
        self._bars.update(self._task, description=f"{mode.title}: {TITLES[scenario]} {what}")

    def done(self, mode: Mode, scenario: str, trials: list[Trial]) -> None:
        self._bars.advance(self._task)
        for trial in trials:
            self._console.print(
                f"{mode.title}: {TITLES[scenario]}: {trial_text(trial)}", highlight=False, markup=False
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


def trial_text(trial: Trial) -> str:
    """A trial's outcome in a few words."""
    if reasons := trial["refused"]:
        return f"left out, {reasons[0]}"
    if trial["scenario"] == "one":
        return f"{median(trial['durations_ms']):.0f} ms"
    if trial["scenario"] == "cpu":
        return f"{trial['answers_per_second']:.0f} answers/s"
    if trial["scenario"] == "search":
        return f"{trial['highest_rate']:g}/s"
    at = f" at {trial['rate']:g}/s" if trial["rate"] is not None else ""
    p50 = trial["percentiles_ms"]["50"]
    if p50 is None:
        return f"nothing was answered{at}"
    return f"{share_text(trial['error_share'])} 5XX or no response{at}, median {p50:.0f} ms"
