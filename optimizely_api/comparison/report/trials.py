"""Selects trials of a report: by mode, scenario and kind of rate; and those whose figures may be stated. No IO."""

from collections.abc import Mapping, Sequence
from typing import Any

# What a trial's rate is: one for all modes, a share of the mode's own highest rate, one beyond it, one that grows, or
# one that the search tries. Trials that wait for responses (`one`, `cpu`) have none.
EQUAL, OWN_SHARE, OVERLOAD, GROWING, TRIED = "equal", "own share", "overload", "growing", "tried"

Trial = Mapping[str, Any]


def trials_of(
    trials: Sequence[Trial],
    mode: str,
    scenario: str,
    *,
    rate_kind: str | None = None,
    share: float | None = None,
) -> list[Trial]:
    """The trials of a mode in a scenario, in their order."""
    return [
        trial
        for trial in trials
        if (trial["mode"], trial["scenario"]) == (mode, scenario)
        and rate_kind in (None, trial["rate_kind"])
        and share in (None, trial["share"])
    ]


def stated(
    trials: Sequence[Trial],
    mode: str,
    scenario: str,
    *,
    rate_kind: str | None = None,
    share: float | None = None,
) -> list[Trial]:
    """Those of `trials_of` whose figures are about the mode: none was refused."""
    return [
        trial
        for trial in trials_of(trials, mode, scenario, rate_kind=rate_kind, share=share)
        if not trial["refused"]
    ]


__all__ = ["EQUAL", "GROWING", "OVERLOAD", "OWN_SHARE", "TRIED", "Trial", "stated", "trials_of"]
