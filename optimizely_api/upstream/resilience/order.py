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
from optimizely_api.upstream.resilience.refusals import AddressesRest, Throttled
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


async def send(sending: Sending, policies: Policies) -> ServiceResponse:  # noqa: C901 - the order, in one place
    """Send a call under the policies of its service; returns the response, whatever its status.

    Raises NotSent, or what the last attempt raises.

    Fast path: the only coroutine of a call, which notes a good response with one call (`Policies.good`).
    """
    timing, limit, hedges = policies.timing, policies.limit, policies.hedges
    if policies.throttle.has_failures and not policies.throttle.lets_pass():
        sending.note("throttled")
        raise Throttled
    is_repeated = on_new_connection = False
    while True:
        if limit.is_on and not limit.enter():
            await _take_turn(sending, limit)
        sending.counts_since = began = timing.now()
        if hedges.is_on:
            hedges.begin(sending, began)
        try:
            try:
                response = await sending.attempt(on_new_connection=on_new_connection)
            except HedgeWon as won:
                response = won.response
            except Exception as exc:
                if sending.second is None:
                    raise
                response = await _second_response(exc, sending, policies, began)
            if response[0] >= 500 and sending.second is not None:
                response = await _second_response(response, sending, policies, began)
            if response[0] not in FAILING:
                now = timing.now()
                policies.good(sending, now, now - began if response[0] in TELLING else None)
                return response
            _end(response, sending, policies, began)
            pause = None if is_repeated else _pause_after(response, sending, policies)
            if pause is None:
                return response
        except (Exception, asyncio.CancelledError) as exc:
            _end(exc, sending, policies, began)
            pause = None if is_repeated else _pause_after(exc, sending, policies)
            if pause is None:
                raise
            # After a response the connections are as good as before.
            on_new_connection = True
        if pause:
            await sleep(timing, pause)
        is_repeated, sending.may_repeat = True, False
        sending.note("repeated")


def count_silence(sending: Sending, policies: Policies) -> None:
    """Count the attempt under way as a failure if it has taken the whole time limit, though somebody waits on."""
    seconds = policies.timing.now() - sending.counts_since
    if is_whole(seconds, policies.time_limit_seconds):
        policies.throttle.failed(seconds)
        sending.counts_since = math.inf


def _end(how: ServiceResponse | BaseException, sending: Sending, policies: Policies, began: float) -> None:
    """The attempt has ended, and not well."""
    _count(how, sending, policies, began)
    sending.counts_since = math.inf
    policies.end(sending, None)


def _count(how: ServiceResponse | BaseException, sending: Sending, policies: Policies, began: float) -> None:
    """Let the throttle know how an attempt has ended, unless it counts as a failure already."""
    now, time_limit = policies.timing.now(), policies.time_limit_seconds
    if sending.counts_since == math.inf:
        return
    if isinstance(how, AddressesRest):
        policies.throttle.was_not_sent()
        return
    if isinstance(how, BaseException):
        has_failed = is_failure(how, sending, now - began, time_limit)
    elif how[0] in FAILING:
        has_failed = is_failing(how[0], sending, now - began, time_limit)
    else:
        policies.throttle.succeeded(now)
        return
    if has_failed:
        policies.throttle.failed(now - began)


def _pause_after(how: ServiceResponse | BaseException, sending: Sending, policies: Policies) -> float | None:
    """The seconds to wait before the call is sent once more; None if it is not."""
    chance = policies.timing.chance
    if isinstance(how, BaseException):
        pause = pause_after_error(how, chance, may_repeat=sending.may_repeat)
    else:
        left, may_repeat = sending.seconds_left(), sending.may_repeat and sending.may_wait
        pause = pause_after_response(how, left, chance, may_repeat=may_repeat)
    may_retry = pause is not None and pause < sending.seconds_left() and policies.budget.spend()
    return pause if may_retry else None


async def _second_response(
    first: ServiceResponse | BaseException, sending: Sending, policies: Policies, began: float
) -> ServiceResponse:
    """Wait for the response to the hedge, where the first attempt has failed or got a 5XX."""
    _count(first, sending, policies, began)
    second, sending.second = sending.second, None
    assert second is not None  # noqa: S101
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
