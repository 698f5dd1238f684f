"""The paths of the two additional views, and a computation of known duration."""

import time

CPU_PATH = "/compare/cpu"
BLOCKING_PATH = "/compare/blocking"


def compute(iterations: int) -> int:
    """Use the processor, and hold the interpreter's lock, for a number of steps."""
    value = 1
    for step in range(iterations):
        value = (value * 31 + step) % 65521
    return value


def iterations_for(milliseconds: float) -> int:
    """The number of steps of `compute` that take this long on this machine, by the fastest of a few tries."""
    steps = 100_000
    best = min(_timed(steps) for _ in range(5))
    return max(1, round(steps * milliseconds / 1000 / best))


def _timed(steps: int) -> float:
    started = time.perf_counter()
    compute(steps)
    return time.perf_counter() - started
