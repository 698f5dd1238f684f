"""How the stub of a service behaves, and what happened at it."""

from dataclasses import dataclass, fields, replace
from typing import Any, Final

CLOSE_WITHOUT_ANSWER: Final = 0  # as `fail_status`


class InvalidManners(ValueError):
    """A setting that the stub does not have, or a value that makes no sense, in words for whoever set it."""


@dataclass(frozen=True)
class Manners:
    """How a service behaves. `fail_status` 0 closes the connection without an answer."""

    delay_ms: float = 50.0
    tail_share: float = 0.0
    tail_factor: float = 10.0
    fail_share: float = 0.0
    fail_status: int = 503

    def __post_init__(self) -> None:
        for name in ("tail_share", "fail_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidManners(f"{name} is between 0 and 1, not {getattr(self, name):g}")
        for name in ("delay_ms", "tail_factor"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidManners(f"{name} is not below 0, and finite")
        if self.fail_status != CLOSE_WITHOUT_ANSWER and not 400 <= self.fail_status <= 599:
            raise InvalidManners(f"fail_status is 0 or from 400 to 599, not {self.fail_status}")

    def changed(self, name: str, text: str) -> "Manners":
        """With one value read from text. Raises InvalidManners."""
        types = {each.name: int if each.type is int else float for each in fields(self)}
        if name not in types:
            raise InvalidManners(f"there is no {name}; there are {', '.join(types)}")
        try:
            value: Any = types[name](text)
        except ValueError:
            raise InvalidManners(f"{name}={text}: not a number that it could be") from None
        return replace(self, **{name: value})


@dataclass
class Counts:
    """What happened at one service."""

    requests: int = 0
    answered: int = 0
    failed: int = 0
    slow: int = 0
    abandoned: int = 0
    connections: int = 0
    most_connections: int = 0
