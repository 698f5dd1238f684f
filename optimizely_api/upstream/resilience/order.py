"""The order of the policies of a call, and `send`, which applies those that surround the sending:

    kept, shared                `caching_client.py`: a fresh kept response is used, an identical call is joined
    throttle                    `send`, below
    limit, attempt              `_attempt`, below
    hedge                       `_first_response`, below
    retry                       `send` again: with another attempt
    stale                       `caching_client.py`: a kept response stands for a service that does not answer

A call is sent once more at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from optimizely_api.upstream.resilience.hedge import HedgeWon
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.policies import Policies
from optimizely_api.upstream.resilience.refusals import NotSent, Throttled
from optimizely_api.upstream.resilience.retry import pause_after_error, pause_after_response
from optimizely_api.upstream.resilience.timing import sleep
from optimizely_api.upstream.transport.connection import IdleConnectionClosed, ServiceResponse

# Statuses of a service that works, or works on, but not now: they count as failures.
FAILING = frozenset({503, 504})
# Statuses whose duration tells how busy a service is; a 202 comes when the time for a computation is over.
TELLING = frozenset({200, 201, 204, 304, 404})


class Sending(Protocol):
    """A call that is sent, perhaps more than once.

    `may_repeat`: whether it may be sent again although the service may have carried it out.
    `may_wait`: whether it is worth repeating when a service has answered that it is busy.
    `wait_seconds`: how long the service is asked to wait for a computation before it answers.
    `account`: whose request it is for; calls of accounts take turns.
    `second`: the response to come of a second attempt that is under way beside the first.
    """

    account: int | None
    may_repeat: bool
    may_wait: bool
    second: asyncio.Future[ServiceResponse] | None
    wait_seconds: float

    def seconds_left(self) -> float:
        """How long somebody will still wait for the response."""

    def attempt(self, *, on_new_connection: bool = False) -> Awaitable[ServiceResponse]:
        """Send it and return its response; cancelled, it ends the connection."""

    def note(self, event: str) -> None:
        """Let the access log say what a policy did."""

    def hedge(self) -> bool:
        """Begin a second attempt, if it may be repeated, and throw HedgeWon into the first at a good response."""


async def send(sending: Sending, policies: Policies) -> ServiceResponse:
    """Send a call under the policies of its service; returns the response, whatever its status.

    Raises NotSent, or what the last attempt raises.
    """
    if not policies.throttle.lets_pass():
        sending.note("throttled")
        raise Throttled
    chance = policies.timing.chance
    try:
        response = await _attempt(sending, policies)
    except Exception as exc:
        pause = pause_after_error(exc, chance, may_repeat=sending.may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            raise
    else:
        if response[0] < 500:
            return response
        left, may_repeat = sending.seconds_left(), sending.may_repeat and sending.may_wait
        pause = pause_after_response(response, left, chance, may_repeat=may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            return response
    if pause:
        await sleep(policies.timing, pause)
    sending.may_repeat = False
    sending.note("repeated")
    return await _attempt(sending, policies, on_new_connection=True)


def _may_retry(sending: Sending, policies: Policies, pause_seconds: float) -> bool:
    return pause_seconds < sending.seconds_left() and policies.budget.spend()


async def _attempt(
    sending: Sending, policies: Policies, *, on_new_connection: bool = False
) -> ServiceResponse:
    """Send the call when it is its turn, and let the policies learn from how that ended."""
    if not policies.limit.enter():
        await _take_turn(sending, policies.limit)
    started, telling_seconds = policies.timing.now(), None
    watched = policies.watch.begin(sending, started)
    try:
        response = await _first_response(sending, policies, on_new_connection=on_new_connection)
        if response[0] in FAILING:
            policies.throttle.failed()
            return response
        now = policies.timing.now()
        policies.throttle.succeeded(now)
        policies.budget.earn()
        if response[0] in TELLING:
            telling_seconds = now - started
            policies.hedges.note(telling_seconds)
        return response
    finally:
        policies.watch.end(watched)
        policies.limit.leave(telling_seconds)


async def _first_response(
    sending: Sending, policies: Policies, *, on_new_connection: bool
) -> ServiceResponse:
    """Return the response to the attempt, or to the hedge that `policies.watch` may send beside it."""
    try:
        return await sending.attempt(on_new_connection=on_new_connection)
    except HedgeWon as won:
        return won.response
    except Exception as exc:
        if _is_failure(exc, sending):
            policies.throttle.failed()
        if sending.second is None:
            raise
        second, sending.second = sending.second, None
        return await _whole(second)
    finally:
        if sending.second is not None:
            sending.second.cancel()
            sending.second = None


async def _whole(second: asyncio.Future[ServiceResponse]) -> ServiceResponse:
    try:
        return await second
    finally:
        second.cancel()  # nothing, unless the wait was cancelled


async def _take_turn(sending: Sending, limit: Limit) -> None:
    sending.note("queued")
    turn = limit.wait(sending.account, sending.seconds_left())
    try:
        await turn
    except asyncio.CancelledError:
        limit.forsake(turn)
        raise


def _is_failure(error: Exception, sending: Sending) -> bool:
    """Whether the service is to blame: not for a connection that was idle, nor for a caller with little time."""
    if isinstance(error, NotSent | IdleConnectionClosed):
        return False
    return not isinstance(error, TimeoutError) or sending.seconds_left() > 0
