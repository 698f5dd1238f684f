"""Failures to start a process, as one line for the person who starts it."""

import configparser


class CannotStart(Exception):
    """A mistake in settings or the environment, not a defect: the message explains it without a traceback."""


class InvalidVariable(CannotStart, ValueError):
    """An environment variable has an invalid value; the message has its name and value."""


def reason(exc: BaseException) -> str:
    """The reason of a failed start, in one line; with the exception's class if the message is not enough."""
    text = " ".join(str(exc).split())
    return text if text and explains_itself(exc) else f"{type(exc).__name__}: {text}"


def explains_itself(exc: BaseException) -> bool:
    """Whether the message is enough, without a traceback."""
    # Paste raises LookupError itself for a missing section; subclasses of LookupError come from defects.
    return isinstance(exc, CannotStart | OSError | configparser.Error) or type(exc) is LookupError


def last_line(text: str) -> str:
    """The last line that is not blank, without gunicorn's prefix for errors."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""
