"""The modes to compare: the same application, contract and worker count under different gunicorn workers."""

import inspect
import os
import pkgutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

APPLICATION = "optimizely_api.comparison.rig.application"

# The blocking applications neither cache nor share upstream calls. The others must not either: only workers differ.
EVERY_CALL = {
    "coalesce_calls": "false",
    "definition_cache_seconds": "0",
    "datafile_cache_seconds": "0",
    "results_cache_bytes": "0",
}


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to serve the gateway.

    `server` are gunicorn's settings, `application` those of the application; both as in production.ini. `fan_out` says
    how the upstream calls of one request are sent together, `source` names the function that does it, and `lines` have
    the beginnings of the lines that show it.
    """

    name: str
    title: str
    factory: str
    fan_out: str
    source: str
    lines: tuple[str, ...]
    server: Mapping[str, str]
    application: Mapping[str, str] = field(default_factory=dict)
    blocks_the_loop: bool = False  # the blocking view is called during all measurements
    is_extra: bool = False  # measured only when it is named
    more_workers: bool = False  # 2 x processors + 1 instead of the same number as the other modes
    needs: str = ""  # a package that is not among the dependencies, and the extra of this name

    def workers(self, same: int) -> int:
        """The number of worker processes, where the other modes have `same`."""
        return 2 * (os.cpu_count() or 1) + 1 if self.more_workers else same

    def threads(self, same: int) -> int | None:
        """How many requests a worker can hold, each in a thread of its own; None if they take no threads."""
        return {"sync": 1, "gthread": same}.get(self.server["worker_class"])


_ASYNCIO_SERVER = {
    "worker_class": "optimizely_api.runtime.server.worker.GatewayWorker",
    "worker_connections": "10000",
    "keepalive": "75",
}

_POOL_LINES = (
    "pool = multiprocessing.Pool(",
    "for index, call in enumerate(",
    "pool.apply_async(",
    "values = self._collect(",
)
_THREAD_LINES = (
    "while unsent or running:",
    "running[self._threads().submit(",
    "for future in self._finished(",
    "values[running.pop(",
)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(
            name="multiprocessing",
            title="multiprocessing",
            factory=f"{APPLICATION}:blocking",
            fan_out="a new process pool and a new queue for each request",
            source="optimizely_api.legacy.pool:PoolFanOut._fetch_all",
            lines=_POOL_LINES,
            server={"worker_class": "sync"},
            application={"legacy.fan_out": "multiprocessing"},
        ),
        Mode(
            name="multiprocessing-kept",
            title="multiprocessing, pool kept",
            factory=f"{APPLICATION}:blocking",
            fan_out="a process pool that each worker makes once",
            source="optimizely_api.legacy.kept_pool:KeptPoolFanOut.fetch_all",
            lines=("pool = ", "sent = ", "return "),
            server={"worker_class": "sync"},
            application={"legacy.fan_out": "multiprocessing-kept"},
            is_extra=True,
        ),
        Mode(
            name="multiprocessing-more",
            title="multiprocessing, more workers",
            factory=f"{APPLICATION}:blocking",
            fan_out="a new process pool and a new queue for each request",
            source="optimizely_api.legacy.pool:PoolFanOut._fetch_all",
            lines=_POOL_LINES,
            server={"worker_class": "sync"},
            application={"legacy.fan_out": "multiprocessing"},
            is_extra=True,
            more_workers=True,
        ),
        Mode(
            name="threads",
            title="threads",
            factory=f"{APPLICATION}:blocking",
            fan_out="threads of the worker's executor",
            source="optimizely_api.legacy.threads:ThreadFanOut.fetch_all",
            lines=_THREAD_LINES,
            server={"worker_class": "gthread"},
            application={"legacy.fan_out": "threads"},
        ),
        Mode(
            name="gevent",
            title="gevent",
            factory=f"{APPLICATION}:blocking",
            fan_out="a greenlet for each call",
            source="optimizely_api.legacy.threads:ThreadFanOut.fetch_all",
            lines=_THREAD_LINES,
            server={"worker_class": "gevent", "worker_connections": "10000", "keepalive": "75"},
            application={"legacy.fan_out": "gevent"},
            is_extra=True,
            needs="gevent",
        ),
        Mode(
            name="asyncio",
            title="asyncio",
            factory=f"{APPLICATION}:coroutines",
            fan_out="a task for each call",
            source="optimizely_api.upstream.client:Client.fetch_all",
            lines=("async with asyncio.TaskGroup()", "tasks = ", "last_value = await", "return [*("),
            server=_ASYNCIO_SERVER,
            application=EVERY_CALL,
        ),
        Mode(
            name="asyncio-blocked",
            title="asyncio, one blocking view",
            factory=f"{APPLICATION}:coroutines",
            fan_out="a task for each call",
            source="optimizely_api.comparison.rig.application:hold_the_loop",
            lines=("time.sleep(", "return "),
            server=_ASYNCIO_SERVER,
            application=EVERY_CALL,
            blocks_the_loop=True,
        ),
    )
}
USUAL = tuple(name for name, mode in MODES.items() if not mode.is_extra)


def description(mode: Mode, workers: int, threads: int) -> dict[str, Any]:
    """What a mode is, for the report; `threads` and `connections` are those of a worker."""
    connections = mode.server.get("worker_connections")
    return {
        "title": mode.title,
        "worker_class": mode.server["worker_class"].rpartition(".")[2],
        "fan_out": mode.fan_out,
        "workers": mode.workers(workers),
        "threads": mode.threads(threads),
        "connections": int(connections) if connections else None,
        "blocks_the_loop": mode.blocks_the_loop,
        "code": code_of(mode.source, mode.lines),
    }


def code_of(name: str, beginnings: Sequence[str]) -> list[str]:
    """The lines of a function that have these beginnings, in this order, indented as among themselves.

    `name` is `module:function`. Raises ValueError for a beginning that no line has.
    """
    # Not imported at the top: the command's help needs no fan-out.
    lines = iter(inspect.getsource(pkgutil.resolve_name(name)).splitlines())
    found = [next((line for line in lines if line.strip().startswith(text)), None) for text in beginnings]
    if None in found:
        raise ValueError(f"{name} has no line that begins with {beginnings[found.index(None)]!r}")
    return textwrap.dedent("\n".join(line for line in found if line is not None)).splitlines()


_INI = """\
[DEFAULT]
{defaults}

[app:main]
paste.app_factory = {factory}
{application}

[server:main]
use = egg:gunicorn#main
{server}

[loggers]
keys = root, access, gunicorn, gunicorn_access

[handlers]
keys = stderr, stdout

[formatters]
keys = plain, json

[logger_root]
level = WARNING
handlers = stderr

[logger_access]
level = INFO
handlers = stdout
qualname = optimizely_api.access
propagate = 0

[logger_gunicorn]
level = INFO
handlers = stderr
qualname = gunicorn.error
propagate = 0

[logger_gunicorn_access]
level = CRITICAL
handlers =
qualname = gunicorn.access
propagate = 0

[handler_stderr]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[handler_stdout]
class = StreamHandler
args = (sys.stdout,)
formatter = json

[formatter_plain]
format = %(asctime)s %(levelname)-8s [%(process)d] %(name)s: %(message)s

[formatter_json]
class = optimizely_api.serving.log.JSONLines
"""


def ini_text(
    mode: Mode, *, port: int, workers: int, threads: int, settings: Mapping[str, str], ready_folder: str
) -> str:
    """Return the text of a mode's ini file; `settings` are the gateway's.

    Its access log is that of production.ini. All else is plain text, which `gateway.commonest_warning` reads.
    """
    server = {
        "bind": f"127.0.0.1:{port}",
        "workers": str(workers),
        "graceful_timeout": "10",
        "control_socket_disable": "true",
        "forwarded_allow_ips": "127.0.0.1,::1",
        **mode.server,
    }
    if (mode.threads(threads) or 0) > 1:
        server["threads"] = str(threads)
    return _INI.format(
        defaults=_lines(settings),
        factory=mode.factory,
        application=_lines({**mode.application, "comparison.ready_folder": ready_folder}),
        server=_lines(server),
    )


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in values.items())
