"""The 400 for a request that breaks the contract."""

from collections.abc import Iterable

from optimizely_api.contract.load import Json
from optimizely_api.contract.violations import sentence
from optimizely_api.gateway.errors import BadRequest


def refusal(violations: Iterable[tuple[str, str, Json]]) -> BadRequest:
    """All that is wrong as `messages`, the first of it as `message`; each is (place, problem, what was sent)."""
    messages: dict[str, str] = {}
    first = ""
    for place, problem, value in violations:
        first = first or sentence(place, problem, value)
        messages.setdefault(place, problem)
    return BadRequest(first, messages)
