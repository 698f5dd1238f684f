"""A gunicorn configuration: that of the ini file, and a count of where each worker spends its CPU time.

A profiling timer interrupts the worker every millisecond of its CPU time (the kernel may make that its own tick), and
the innermost frame that `STAGES` knows says which stage that was. Python hears of the timer between two of its own
instructions, so that the event loop's work on a socket counts for the callback after it. On the first real-time
signal the worker writes `{stage: samples}` to the file that STAGES_FILE names, and starts again from nothing.
"""

import functools
import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from optimizely_api.runtime.server.ini_section import *  # noqa: F403

SAMPLE_SECONDS = 0.001
REST = "event loop, sockets"
# (part of a file's path, function or "" for all of them, stage); what is not listed counts for who called it.
STAGES = (
    ("/gunicorn/asgi/parser.py", "", "HTTP parse"),
    ("/gunicorn/asgi/", "", "HTTP server"),
    ("/optimizely_api/runtime/server/protocol.py", "", "HTTP server"),
    ("/optimizely_api/runtime/server/http1/response.py", "", "HTTP server"),
    ("/optimizely_api/runtime/server/http1/", "", "HTTP parse"),
    ("/gunicorn/workers/", "", REST),
    ("/optimizely_api/runtime/server/worker.py", "", REST),
    ("/optimizely_api/runtime/", "", "environ and greenlet"),
    ("/aiopyramid/", "", "environ and greenlet"),
    ("/optimizely_api/gateway/contract/responses.py", "render_json", "serialisation"),
    ("/optimizely_api/gateway/contract/responses.py", "", "response validation"),
    ("/optimizely_api/contract/validators.py", "", "response validation"),
    ("/optimizely_api/contract/", "", "request validation"),
    ("/pyramid_swagger/", "", "request validation"),
    ("/bravado_core/", "", "request validation"),
    ("/optimizely_api/gateway/identity.py", "", "identity"),
    ("/optimizely_api/gateway/access_log.py", "", "tweens: access log, body limit"),
    ("/optimizely_api/gateway/body_limit.py", "", "tweens: access log, body limit"),
    ("/optimizely_api/gateway/finishing.py", "", "ETag, compression"),
    ("/optimizely_api/http/entity_tags.py", "", "ETag, compression"),
    ("/optimizely_api/http/codings.py", "", "ETag, compression"),
    ("/optimizely_api/gateway/composition/results.py", "", "composition"),
    ("/optimizely_api/gateway/views/", "", "view"),
    ("/optimizely_api/upstream", "", "upstream calls"),
    ("/aiohttp/", "", "upstream calls"),
    ("/pyramid/", "", "Pyramid: router, request, response"),
)

_samples: Counter[str] = Counter()


@functools.cache
def stage_of(code: CodeType) -> str | None:
    """The stage of a function; None where the caller has to be asked."""
    for part, function, stage in STAGES:
        if part in code.co_filename and function in ("", code.co_name):
            return stage
    return None


def _sample(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if (stage := stage_of(frame.f_code)) is not None:
            _samples[stage] += 1
            return
        frame = frame.f_back
    _samples[REST] += 1


def _write(_number: int, _frame: FrameType | None) -> None:
    file = Path(os.environ["STAGES_FILE"])
    file.with_suffix(".new").write_text(json.dumps(_samples))
    file.with_suffix(".new").replace(file)
    _samples.clear()


def post_worker_init(_worker: Any) -> None:
    """Called by gunicorn in a worker that is about to serve."""
    signal.signal(signal.SIGRTMIN, _write)
    if os.environ.get("STAGES_SAMPLED"):
        signal.signal(signal.SIGPROF, _sample)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
