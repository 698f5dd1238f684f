"""The one shape of a log line, of the gateway and of the services: a JSON object.

    {"time": "2026-01-31T12:00:00.123456Z", "level": "info", "logger": "optimizely_api.access", "process": 4711,
     "message": "request", ...}

`fields` follow, as in `log.info("...", extra={"fields": {"visitors": 3}})`; a traceback is in `traceback`. Lines about
requests name the same things alike, whoever writes them: `request_id`, `method`, `path`, `route`, `status`,
`duration_ms`.

A formatter of our own, since others cost more for each line and would need a class of ours for these names too. With
orjson in all of them, and the standard library's loggers, which gunicorn and the ini files configure, a line of the
access log takes 6 us here, 10 in python-json-logger 4.2 and 18 in structlog 26.1.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson

GATEWAY_ACCESS = "optimizely_api.access"
SERVICES_ACCESS = "optimizely_api.services.access"

Fields = Mapping[str, Any]


class JSONLines(logging.Formatter):
    """For programs that read the log."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()
        except orjson.JSONEncodeError:
            # An integer beyond 64 bits, half of a surrogate pair, or a key that is no text.
            return json.dumps(line, default=_as_text)


class ReadableLines(logging.Formatter):
    """For a person who reads along: the ini file's format, and the fields after the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging.Formatter
        fields = (f"{name}={value}" for name, value in _fields(record).items())
        return "  ".join([super().formatMessage(record), *fields])


def log_request(log: logging.Logger, fields: Fields) -> None:
    """Write the line of one request, as `log.info()` does, without the search for the line of code that calls it."""
    if log.isEnabledFor(logging.INFO):
        log.handle(_RequestRecord(log.name, fields))


class _RequestRecord(logging.LogRecord):
    """The record of one request.

    Fast path: of what every record holds, most is the same for all requests, and copied from `SHARED`. To measure:
    `python -m tests.benchmark_stages` (stage "tweens").
    """

    SHARED: ClassVar = vars(logging.LogRecord("", logging.INFO, __file__, 0, "request", (), None))

    def __init__(self, name: str, fields: Fields) -> None:
        created = time.time()
        self.__dict__.update(
            self.SHARED,
            name=name,
            fields=fields,
            created=created,
            msecs=float(int(created % 1 * 1000)),
            relativeCreated=self.SHARED["relativeCreated"] + 1000 * (created - self.SHARED["created"]),
            process=os.getpid(),
            thread=threading.get_ident(),
            threadName=threading.current_thread().name,
        )


def _fields(record: logging.LogRecord) -> Fields:
    return getattr(record, "fields", None) or {}


def _as_text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
