"""Judges responses: in contract, right, in time, and with a reason where there is none. No IO."""

import re
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from optimizely_api.comparison.load.result import BAD, TIMEOUT
from optimizely_api.contract import Contract
from optimizely_api.contract.composition import MISSING_PARTS, Composition
from optimizely_api.contract.validators import ResponseValidator, closed_validators

MARGIN_SECONDS: Final = 0.1  # beyond the deadline, for the way there and back
# A 500 names no cause: the gateway says with it that it has a defect.
EXPLAINED: Final = frozenset({502, 503, 504})
# With Retry-After: results are being computed, an Idempotency-Key is in use, too many requests.
COME_LATER: Final = frozenset({202, 409, 429})
# Results may be stale if they say so.
NOT_COMPARED: Final = frozenset({"is_stale"})
_QUOTED: Final = re.compile("`([^`]+)`")


class Verdict(StrEnum):
    """The verdict on one request; the first five are good."""

    FRESH = "fresh"
    STALE = "stale, and says so"
    PARTIAL = "partial, and says so"
    LATER = "asks to come later"
    EXPLAINED = "5XX with its reason"
    OFF_CONTRACT = "off contract"
    WRONG = "wrong"
    LATE = "late"
    UNEXPLAINED = "5XX or no response, unexplained"

    @property
    def is_bad(self) -> bool:
        return self in BAD_VERDICTS


BAD_VERDICTS: Final = (Verdict.OFF_CONTRACT, Verdict.WRONG, Verdict.LATE, Verdict.UNEXPLAINED)
Judgement = tuple[Verdict, str]
"""A verdict, and in words why it is bad."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request and its right answer.

    `value` is the body of a response with `status`, or what `known` takes of it; None where only the status is known.
    `operation_id` is empty outside the contract. A value that `grows` may be an earlier one in a stale response.
    """

    operation_id: str
    path: str
    token: str
    status: int = 200
    value: Any = None
    method: str = "GET"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    known: Callable[[Any], Any] | None = None
    grows: bool = False

    def payload(self, host: str, request_id: str) -> bytes:
        """The request's bytes."""
        headers = {
            "Host": host,
            "Accept": "application/json",
            "X-Request-Id": request_id,
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
            **self.headers,
            **(
                {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
                if self.body
                else {}
            ),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class Received:
    """What came back; `failure` is empty for a whole response, whose headers' names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes
    failure: str
    seconds: float


class Judge:
    """Judges what came back for a question; `deadline_seconds` is the gateway's."""

    def __init__(self, contract: Contract, deadline_seconds: float) -> None:
        self._operations = contract.operations
        self._validators = closed_validators(contract)
        self.longest_seconds = deadline_seconds + MARGIN_SECONDS

    def verdict(self, question: Question, request_id: str, received: Received) -> Judgement:
        if received.failure == TIMEOUT:
            return Verdict.LATE, "no whole response"
        if received.failure:
            verdict = Verdict.OFF_CONTRACT if received.failure == BAD else Verdict.UNEXPLAINED
            return verdict, f"no response: {received.failure}"
        verdict, why = self._content(question, request_id, received)
        if not verdict.is_bad and received.seconds > self.longest_seconds:
            return Verdict.LATE, f"after {received.seconds:.2f} s"
        return verdict, why

    def _content(self, question: Question, request_id: str, received: Received) -> Judgement:
        try:
            value = orjson.loads(received.body) if received.body else None
        except orjson.JSONDecodeError:
            value = None
        is_ours = received.headers.get("x-request-id") == request_id
        if received.status >= 500 and (why := _unexplained(value, received, is_ours=is_ours)):
            return Verdict.UNEXPLAINED, why
        if why := self._off_contract(question, value, received):
            return Verdict.OFF_CONTRACT, why
        if received.status >= 500:
            return Verdict.EXPLAINED, ""
        if not is_ours:
            return Verdict.WRONG, "the response to another request"
        if received.status in COME_LATER and "retry-after" in received.headers:
            return Verdict.LATER, ""
        return self._right(question, value, received)

    def _off_contract(self, question: Question, value: Any, received: Received) -> str:
        validator = self._expected(question.operation_id, received.status)
        if validator is None:
            return f"status {received.status} is not declared"
        if not validator.expects_body:
            return "a body where there is none" if received.body else ""
        violation = validator.check(value)
        return "" if violation is None else f"{violation.keyword} at {violation.pointer or '/'}"

    def _expected(self, operation_id: str, status: int) -> ResponseValidator | None:
        if operation_id:
            return self._validators.find(operation_id, status)
        if status >= 400:
            return self._validators.error
        return self._validators.nothing if status == 204 else None

    def _right(self, question: Question, value: Any, received: Received) -> Judgement:
        if received.status != question.status:
            return Verdict.WRONG, f"{received.status} instead of {question.status}"
        if question.value is None:
            return Verdict.FRESH, ""
        is_stale = "age" in received.headers or (isinstance(value, dict) and value.get("is_stale") is True)
        if question.known is not None:
            value = question.known(value)
        missing = received.headers.get("x-unreachable", "")
        composition = self._operations[question.operation_id].composition
        member = difference(question.value, value, may_differ=NOT_COMPARED | _may_lack(composition, missing))
        if member is not None and not (is_stale and question.grows):
            return Verdict.WRONG, f"another value of {member or 'the whole'}"
        if missing:
            return Verdict.PARTIAL, ""
        return (Verdict.STALE if is_stale else Verdict.FRESH), ""


def _may_lack(composition: Composition, missing: str) -> frozenset[str]:
    """The members that a response may lack, as the contract states it of the optional parts in X-Unreachable."""
    if not missing:
        return frozenset()
    parts = (composition.parts.get(name) for name in missing.split(", "))
    return frozenset(
        {MISSING_PARTS}.union(*(_QUOTED.findall(part.without) for part in parts if part is not None))
    )


def _unexplained(value: Any, received: Received, *, is_ours: bool) -> str:
    """Why a 5XX explains nothing; empty if it does. One that is not ours is the balancer's, which only may refuse."""
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        return f"{received.status} without our body"
    if received.status not in EXPLAINED:
        return f"{received.status} {value['code']}"
    if received.status == 503 and "retry-after" not in received.headers:
        return "503 without Retry-After"
    if received.status != 503 and not is_ours:
        return f"{received.status} of the balancer"
    return ""


def difference(right: Any, value: Any, *, may_differ: Set[str] = frozenset(), member: str = "") -> str | None:
    """The first member in which a value is not the right one, such as `metrics.name`; None if there is none.

    Indices of lists are no part of a member's name. Those in `may_differ` may be missing, and have any value.
    """
    if isinstance(right, dict) and isinstance(value, dict):
        names = {f"{member}.{name}" if member else name: name for name in right.keys() | value.keys()}
        compared = (path for path in sorted(names) if path not in may_differ)
        pairs = [
            (path, right.get(names[path], _ABSENT), value.get(names[path], _ABSENT)) for path in compared
        ]
    elif isinstance(right, list) and isinstance(value, list) and len(right) == len(value):
        pairs = [(member, *pair) for pair in zip(right, value, strict=True)]
    else:
        return None if type(right) is type(value) and right == value else member
    found = (difference(one, two, may_differ=may_differ, member=path) for path, one, two in pairs)
    return next((path for path in found if path is not None), None)


_ABSENT: Final = object()
