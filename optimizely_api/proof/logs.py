"""What logs say of some requests."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

MOST_LINES: Final = 60  # of a request; the last ones of a traceback say most
_RECORD: Final = re.compile(r"\d{4}-\d\d-\d\d |\{")  # other lines go on with the record before them


def log_lines(logs: Sequence[Path], request_ids: Collection[str]) -> dict[str, list[str]]:
    """Return {request id: the last lines of the records that name it}."""
    if not request_ids:
        return {}
    found: dict[str, list[str]] = {request_id: [] for request_id in request_ids}
    any_of_them = re.compile("|".join(map(re.escape, found)))
    for log in logs:
        lines: list[str] | None = None
        with log.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if _RECORD.match(line):
                    named = any_of_them.search(line)
                    lines = None if named is None else found[named[0]]
                if lines is not None:
                    lines.append(line.rstrip())
    return {request_id: lines[-MOST_LINES:] for request_id, lines in found.items()}
