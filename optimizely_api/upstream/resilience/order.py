"""The order of the policies of a call, and `send`, which applies those that surround the sending:

    kept, shared        `caching_client.py`: a fresh kept response is used, an identical call under way is joined
    attempt, retry      `send`, below
    stale               `caching_client.py`: what was kept stands for a service that does not answer (`stale.py`)

A call is sent once more at most.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from optimizely_api.upstream.resilience.policies import Policies
from optimizely_api.upstream.resilience.retry import pause_after_error, pause_after_response
from optimizely_api.upstream.resilience.timing import sleep
from optimizely_api.upstream.transport.connection import ServiceResponse


class Sending(Protocol):
    """A call that is sent, perhaps more than once.

    `may_repeat`: whether it may be sent again although the service may have carried it out.
    """

    may_repeat: bool

    def seconds_left(self) -> float:
        """How long somebody will still wait for the response."""

    def attempt(self, *, on_new_connection: bool = False) -> Awaitable[ServiceResponse]:
        """Send it and return its response; cancelled, it ends the connection."""


async def send(sending: Sending, policies: Policies) -> ServiceResponse:
    """Send a call under the policies of its service; returns the response, whatever its status.

    Raises what the last attempt raises.
    """
    chance, may_repeat = policies.timing.chance, sending.may_repeat
    try:
        response = await sending.attempt()
    except Exception as exc:
        pause = pause_after_error(exc, chance, may_repeat=may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            raise
    else:
        if response[0] < 500:
            policies.budget.earn()
            return response
        pause = pause_after_response(response, sending.seconds_left(), chance, may_repeat=may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            return response
    if pause:
        await sleep(policies.timing, pause)
    return await sending.attempt(on_new_connection=True)


def _may_retry(sending: Sending, policies: Policies, pause_seconds: float) -> bool:
    return pause_seconds < sending.seconds_left() and policies.budget.spend()
