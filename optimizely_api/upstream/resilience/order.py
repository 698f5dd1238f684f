"""The order of the policies of a call, and `send`, which applies those that surround the sending:

    kept, shared                `caching_client.py`: a fresh kept response is used, an identical call is joined
    throttle                    `send`, below
    limit, attempt, hedge       `_attempt`, below; `failures.py` says which ends the throttle counts as failures
    retry                       `send` again: with another attempt
    stale                       `caching_client.py`: a kept response stands for a service that does not answer

A call is sent once more at most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Protocol

from optimizely_api.upstream.resilience.failures import FAILING, is_failing, is_failure, is_whole
from optimizely_api.upstream.resilience.hedge import HedgeWon
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.policies import Policies
from optimizely_api.upstream.resilience.refusals import Throttled
from optimizely_api.upstream.resilience.retry import pause_after_error, pause_after_response
from optimizely_api.upstream.resilience.timing import sleep
from optimizely_api.upstream.transport.connection import ServiceResponse

# Statuses whose duration tells how busy a service is; a 202 comes when the time for a computation is over.
TELLING = frozenset({200, 201, 204, 304, 404})


class Sending(Protocol):
    """A call that is sent, perhaps more than once.

    `may_repeat`: whether it may be sent again although the service may have carried it out.
    `may_wait`: whether it is worth repeating when a service has answered that it is busy.
    `seconds_told`: how long the service was told, in the last attempt that is no hedge, that somebody waits.
    `counts_since`: when the attempt under way began, until it counts as a failure; then, and before it, infinite.
    `account`: whose request it is for; calls of accounts take turns.
    `second`: the response to come of a second attempt that is under way beside the first.
    """

    account: int | None
    counts_since: float
    may_repeat: bool
    second: asyncio.Future[ServiceResponse] | None
    seconds_told: float

    @property
    def may_wait(self) -> bool: ...

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
    if policies.throttle.has_failures and not policies.throttle.lets_pass():
        sending.note("throttled")
        raise Throttled
    chance = policies.timing.chance
    has_broken = False
    try:
        response = await _attempt(sending, policies)
    except Exception as exc:
        pause = pause_after_error(exc, chance, may_repeat=sending.may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            raise
        has_broken = True
    else:
        if response[0] < 500:
            return response
        left, may_repeat = sending.seconds_left(), sending.may_repeat and sending.may_wait
        pause = pause_after_response(response, left, chance, may_repeat=may_repeat)
        if pause is None or not _may_retry(sending, policies, pause):
            return response
    sending.counts_since = math.inf
    if pause:
        await sleep(policies.timing, pause)
    sending.may_repeat = False
    sending.note("repeated")
    # After a response the connections are as good as before.
    return await _attempt(sending, policies, on_new_connection=has_broken)


def _may_retry(sending: Sending, policies: Policies, pause_seconds: float) -> bool:
    return pause_seconds < sending.seconds_left() and policies.budget.spend()


async def _attempt(
    sending: Sending, policies: Policies, *, on_new_connection: bool = False
) -> ServiceResponse:
    """Send the call when it is its turn, and let the policies learn from how that ended."""
    limit, hedges = policies.limit, policies.hedges
    if limit.is_on and not limit.enter():
        await _take_turn(sending, limit)
    telling_seconds = None
    sending.counts_since = started = policies.timing.now()
    if hedges.is_on:
        hedges.begin(sending, started)
    try:
        try:
            response = await sending.attempt(on_new_connection=on_new_connection)
        except HedgeWon as won:
            response = won.response
        except Exception as exc:
            if sending.second is None:
                raise
            _blame(exc, sending, policies, started)
            response = await _second_response(sending)
        if response[0] >= 500 and sending.second is not None:
            _learn(response[0], sending, policies, started)
            response = await _second_response(sending)
        telling_seconds = _learn(response[0], sending, policies, started)
        return response
    except (Exception, asyncio.CancelledError) as exc:
        _blame(exc, sending, policies, started)
        raise
    finally:
        _end_second(sending)
        if hedges.is_on:
            hedges.end(sending, telling_seconds)
        if limit.is_on:
            limit.leave(telling_seconds)


def _learn(status: int, sending: Sending, policies: Policies, started: float) -> float | None:
    """Note the status of a response; returns its seconds if they tell how busy the service is."""
    now = policies.timing.now()
    if status in FAILING:
        if sending.counts_since < math.inf and is_failing(
            status, sending, now - started, policies.time_limit_seconds
        ):
            policies.throttle.failed(now - started)
        return None
    policies.throttle.succeeded(now)
    policies.budget.earn()
    return now - started if status in TELLING else None


def _blame(error: BaseException, sending: Sending, policies: Policies, started: float) -> None:
    seconds = policies.timing.now() - started
    if sending.counts_since < math.inf and is_failure(error, sending, seconds, policies.time_limit_seconds):
        policies.throttle.failed(seconds)


def count_silence(sending: Sending, policies: Policies) -> None:
    """Count the attempt under way as a failure if it has taken the whole time limit, though somebody waits on."""
    seconds = policies.timing.now() - sending.counts_since
    if is_whole(seconds, policies.time_limit_seconds):
        policies.throttle.failed(seconds)
        sending.counts_since = math.inf


async def _second_response(sending: Sending) -> ServiceResponse:
    """Wait for the response to the hedge, where the first attempt has failed or got a 5XX."""
    second, sending.second = sending.second, None
    assert second is not None  # noqa: S101
    try:
        return await second
    finally:
        second.cancel()  # nothing, unless the wait was cancelled


def _end_second(sending: Sending) -> None:
    if sending.second is not None:
        sending.second.cancel()
        sending.second = None


async def _take_turn(sending: Sending, limit: Limit) -> None:
    sending.note("queued")
    turn = limit.wait(sending.account, sending.seconds_left())
    try:
        await turn
    except asyncio.CancelledError:
        limit.forsake(turn)
        raise
