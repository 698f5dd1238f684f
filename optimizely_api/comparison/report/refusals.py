"""Rules that decide which figures of a trial may not be stated, with the reason in words. No IO."""

from collections.abc import Mapping, Sequence
from typing import Any

# The first and last event of a scenario: its figures are about the time between them.
EVENTS = {
    "slow": ("slow", "well again"),
    "restart": ("restart", "new workers alone"),
    "blocking": ("blocking calls", "none any more"),
}


def why_refused(trial: Mapping[str, Any]) -> list[str]:
    """The reasons why a trial's figures are not stated; none if they are."""
    if trial["scenario"] == "search":
        return _search(trial)
    reasons = [f"the load generator fell behind: {sentence}" for sentence in trial.get("not_fit", ())]
    if trial["scenario"] in EVENTS:
        reasons += _outside(trial, *EVENTS[trial["scenario"]])
    return reasons


def lowest_failed(tried: Sequence[Mapping[str, Any]], held: float) -> float | None:
    """The lowest rate above `held` that failed; None without one. A trial whose load was not kept has not failed."""
    failed = [
        each["rate"] for each in tried if each["rate"] > held and not each["holds"] and not each["not_fit"]
    ]
    return min(failed, default=None)


def _search(trial: Mapping[str, Any]) -> list[str]:
    if trial["highest_rate"] or trial["lowest_failed"] is not None:
        return []
    return ["the load generator fell behind at every rate"]


def _outside(measured: Mapping[str, Any], first: str, last: str) -> list[str]:
    at = {event["what"]: event["at"] for event in measured["events"]}
    end = measured["seconds"][-1]["end"]
    if first not in at or last not in at:
        return [f"the events `{first}` and `{last}` were not both seen"]
    if at[first] < 0:
        return [f"the event `{first}` came {-at[first]:.1f} s before the measured load"]
    if at[last] > end:
        return [f"it ended (`{last}`) at {at[last]:.2f} s, after the load, which ended at {end:.2f} s"]
    return []


__all__ = ["EVENTS", "lowest_failed", "why_refused"]
