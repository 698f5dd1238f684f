"""Shows the progress of a load: a bar in a terminal, a few lines anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from optimizely_api.demo.visitors import Batch

LINES = 5  # instead of the bar


class Progress:
    """Counts and shows the visitors and events sent."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total = console, total
        self.visitors = self.events = 0
        self._bar = Bar(
            TextColumn("Demo data"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("visitors"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        if not self.console.is_terminal:
            self._say(f"Loading demo data: {self.total:,} visitors")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def sent(self, batch: Batch) -> None:
        """Count a batch that the results service has stored."""
        before = self.visitors * LINES // self.total
        self.visitors += batch.visitors
        self.events += batch.events
        self._bar.update(self._task, completed=self.visitors)
        if not self.console.is_terminal and self.visitors * LINES // self.total > before:
            self._say(f"Demo data: {self.visitors:,} of {self.total:,} visitors")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)
