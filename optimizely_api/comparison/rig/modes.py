"""The modes to compare: the same application, contract and worker count under different gunicorn workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    `server` are gunicorn's settings, `application` those of the application; both as in production.ini.
    """

    name: str
    title: str
    factory: str
    server: Mapping[str, str]
    application: Mapping[str, str] = field(default_factory=dict)
    blocks_the_loop: bool = False  # the blocking view is called during all measurements


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(
            name="multiprocessing",
            title="multiprocessing",
            factory=f"{APPLICATION}:blocking",
            server={"worker_class": "sync"},
            application={"legacy.fan_out": "multiprocessing"},
        ),
        Mode(
            name="threads",
            title="threads",
            factory=f"{APPLICATION}:blocking",
            server={"worker_class": "gthread"},
            application={"legacy.fan_out": "threads"},
        ),
        Mode(
            name="asyncio",
            title="asyncio",
            factory=f"{APPLICATION}:coroutines",
            server={
                "worker_class": "optimizely_api.runtime.server.worker.GatewayWorker",
                "worker_connections": "10000",
                "keepalive": "75",
            },
            application=EVERY_CALL,
        ),
        Mode(
            name="asyncio-blocked",
            title="asyncio, one blocking view",
            factory=f"{APPLICATION}:coroutines",
            server={
                "worker_class": "optimizely_api.runtime.server.worker.GatewayWorker",
                "worker_connections": "10000",
                "keepalive": "75",
            },
            application=EVERY_CALL,
            blocks_the_loop=True,
        ),
    )
}

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

    Its access log is that of production.ini. All else is plain text, which `gateway.first_stall` reads.
    """
    server = {
        "bind": f"127.0.0.1:{port}",
        "workers": str(workers),
        "graceful_timeout": "10",
        "control_socket_disable": "true",
        "forwarded_allow_ips": "127.0.0.1,::1",
        **mode.server,
    }
    if mode.server["worker_class"] == "gthread":
        server["threads"] = str(threads)
    return _INI.format(
        defaults=_lines(settings),
        factory=mode.factory,
        application=_lines({**mode.application, "comparison.ready_folder": ready_folder}),
        server=_lines(server),
    )


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in values.items())
