"""The last steps of a simulation, for the message about an invariant that does not hold."""

from collections import deque
from typing import Any, NoReturn

from tests.simulate.virtual_loop import STARTED, VirtualLoop

STEP_SECONDS = 0.001  # in which something may end that is due
LAST = 40


class Broken(Exception):
    """An invariant does not hold."""


class Steps:
    """What happened, and when."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._last: deque[tuple[Any, ...]] = deque(maxlen=LAST)
        self.now = loop.time

    def note(self, *step: Any) -> None:
        self._last.append((self.now(), *step))

    def broken(self, what: str) -> NoReturn:
        """End the run; whoever calls this may be a task whose exception nobody sees."""
        steps = "\n".join(f"  {at - STARTED:12.3f} s  {' '.join(map(str, step))}" for at, *step in self._last)
        message = f"{what}\nat {self.now() - STARTED:.3f} s of virtual time, after\n{steps}"
        self._loop.failure = failure = Broken(message)
        raise failure
