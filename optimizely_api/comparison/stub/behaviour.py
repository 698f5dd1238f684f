"""The behaviour of a stub service, and its counts."""

from dataclasses import dataclass, fields, replace
from typing import Any, Final

CLOSE_WITHOUT_RESPONSE: Final = 0  # as `fail_status`


class InvalidBehaviour(ValueError):
    """An unknown setting or an invalid value; the message tells the user which."""


@dataclass(frozen=True)
class Behaviour:
    """How a service behaves. `fail_status` 0 closes the connection without a response."""

    delay_ms: float = 50.0
    tail_share: float = 0.0
    tail_factor: float = 10.0
    fail_share: float = 0.0
    fail_status: int = 503

    def __post_init__(self) -> None:
        for name in ("tail_share", "fail_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidBehaviour(f"{name} is between 0 and 1, not {getattr(self, name):g}")
        for name in ("delay_ms", "tail_factor"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidBehaviour(f"{name} is not below 0, and finite")
        if self.fail_status != CLOSE_WITHOUT_RESPONSE and not 400 <= self.fail_status <= 599:
            raise InvalidBehaviour(f"fail_status is 0 or from 400 to 599, not {self.fail_status}")

    def changed(self, name: str, text: str) -> "Behaviour":
        """A copy with one setting changed to the value in `text`. Raises InvalidBehaviour."""
        types = {each.name: int if each.type is int else float for each in fields(self)}
        if name not in types:
            raise InvalidBehaviour(f"there is no {name}; there are {', '.join(types)}")
        try:
            value: Any = types[name](text)
        except ValueError:
            raise InvalidBehaviour(f"{name}={text}: not a number that it could be") from None
        return replace(self, **{name: value})


@dataclass
class Counts:
    """Requests and connections of one service; `abandoned` counts requests whose client left before the response."""

    requests: int = 0
    answered: int = 0
    failed: int = 0
    slow: int = 0
    abandoned: int = 0
    connections: int = 0
    most_connections: int = 0
