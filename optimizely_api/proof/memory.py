"""The memory of gateways and services in the course of a proof."""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from optimizely_api.comparison.rig.processes import Process

SAMPLE_SECONDS: Final = 2.0
SHARE: Final = 0.2  # of the samples, at the beginning and at the end


class MemoryWatch:
    """Samples what groups of processes take, with all their descendants; `groups` returns {name: processes}."""

    def __init__(self, groups: Callable[[], Mapping[str, Sequence[Process]]]) -> None:
        self._groups = groups
        self._samples: dict[str, list[int]] = {}

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            for name, processes in self._groups().items():
                total = await asyncio.to_thread(_memory_bytes, processes)
                self._samples.setdefault(name, []).append(total)
            await asyncio.sleep(SAMPLE_SECONDS)

    def to_json(self) -> dict[str, Any]:
        """{group: medians of the first and the last fifth of the samples, and the most, in bytes}."""
        return {
            name: {
                "first_bytes": int(statistics.median(samples[: _part(samples)])),
                "last_bytes": int(statistics.median(samples[-_part(samples) :])),
                "most_bytes": max(samples),
            }
            for name, samples in self._samples.items()
        }


def _part(samples: Sequence[int]) -> int:
    return max(1, round(SHARE * len(samples)))


def _memory_bytes(processes: Sequence[Process]) -> int:
    return sum(process.usage().memory_bytes for process in processes)
