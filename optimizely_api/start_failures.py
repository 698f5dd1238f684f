"""What keeps a process from starting, in one line for the person who starts it."""

import configparser


class CannotStart(Exception):
    """Something wrong in settings or surroundings, no defect: the message alone says what."""


class InvalidVariable(CannotStart, ValueError):
    """A variable of the environment that makes no sense; the message names it and its value."""


def reason(exc: BaseException) -> str:
    """Why a start failed, in one line; a class is named where its message alone would not be understood."""
    text = " ".join(str(exc).split())
    return text if text and explains_itself(exc) else f"{type(exc).__name__}: {text}"


def explains_itself(exc: BaseException) -> bool:
    """Whether the message is enough, without a traceback."""
    # Paste raises LookupError itself for a section that is missing; its subclasses come from defects.
    return isinstance(exc, CannotStart | OSError | configparser.Error) or type(exc) is LookupError


def last_line(text: str) -> str:
    """The last line that says something, without gunicorn's word for an error before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""
