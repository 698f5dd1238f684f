"""The options of the runtime: limits and times, with their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optimizely_api.start_failures import CannotStart


class InvalidOption(CannotStart, ValueError):
    """An option that stops start-up; the message names it and its value."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Limits of the bridge, the worker and the watchdog; times are in seconds.

    Raises InvalidOption, which names the option and its value, for a value that makes no sense.
    """

    max_request_body_bytes: int = 1024 * 1024
    larger_bodies: Mapping[str, int] = field(default_factory=dict)  # path -> its own limit, in bytes
    request_bodies_bytes: int = 64 * 1024 * 1024  # of all requests under way in one worker
    max_request_line_bytes: int = 16 * 1024
    max_header_section_bytes: int = 64 * 1024
    max_header_fields: int = 100
    body_timeout_seconds: float = 30.0  # for the complete body, however slowly it arrives
    header_timeout_seconds: float = 10.0
    write_timeout_seconds: float = 60.0  # while output waits and the client reads none of it
    stall_warning_seconds: float = 0.1  # 0 turns the watchdog off
    # Requests that wait in the line for longer than this without a break are an overload: some are refused; 0 is off.
    overload_wait_seconds: float = 0.0
    account_in_flight_share: float = 0.5  # of a worker's requests, once it is half full; 1 limits no account

    def body_limit(self, path: str) -> int:
        """Return the largest body of a request to this path, in bytes."""
        return self.larger_bodies.get(path, self.max_request_body_bytes)

    def __post_init__(self) -> None:
        if self.max_request_body_bytes < 0:
            raise InvalidOption(
                f"max_request_body_bytes is {self.max_request_body_bytes!r}; 0 or more is needed"
            )
        for name in ("max_request_line_bytes", "max_header_section_bytes", "max_header_fields"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; 1 or more is needed")
        if self.request_bodies_bytes < self.max_request_body_bytes:
            raise InvalidOption(
                f"request_bodies_bytes is {self.request_bodies_bytes!r}; room for one body of"
                f" max_request_body_bytes = {self.max_request_body_bytes!r} is needed"
            )
        for name in ("stall_warning_seconds", "overload_wait_seconds", "account_in_flight_share"):
            if getattr(self, name) < 0:
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; 0 or more is needed")
        for name in ("body_timeout_seconds", "header_timeout_seconds", "write_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; more than 0 is needed")
