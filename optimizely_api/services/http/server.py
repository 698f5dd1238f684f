"""Start one of the services: migrate its database, then serve it with gunicorn's aiohttp worker."""

from __future__ import annotations

import gc
import importlib
import logging.config
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication

from optimizely_api.services.http import relied_on
from optimizely_api.services.http.limits import limits_from_environment
from optimizely_api.services.http.worker import worker_class
from optimizely_api.services.storage.database import database_url as parse_database_url
from optimizely_api.services.storage.database import default_database_url, migrate
from optimizely_api.services_key import read_keys
from optimizely_api.serving import boot_failures, reloading
from optimizely_api.serving.boot_signals import end_on_signals_after_fork
from optimizely_api.serving.log import JSONLines

DEFAULT_HOST = "127.0.0.1"
GRACEFUL_TIMEOUT_SECONDS = 30
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # gunicorn makes its files there by mkstemp

log = logging.getLogger("optimizely_api.services.http.server")


@dataclass(frozen=True)
class Service:
    """A service that `run_service` can start from the package `optimizely_api.services.<name>`.

    The package has `create_application(database_url) -> aiohttp.web.Application`, `check_environment()`, which raises
    CannotStart for a wrong variable, and a folder `migrations` for alembic. A service that is `part_of` another one
    shares its package and database, and has its own application, which `factory` names.
    """

    name: str
    port: int
    part_of: str = ""
    factory: str = "create_application"

    @property
    def owner(self) -> str:
        """The service whose package and database these are."""
        return self.part_of or self.name

    @property
    def package(self) -> str:
        """The package that holds the service."""
        return f"optimizely_api.services.{self.owner}"

    @property
    def migrations(self) -> str:
        """The service's migrations, as alembic names package data."""
        return f"{self.package}:migrations"

    def create_application(self, url: str) -> web.Application:
        """The service's application on the database at `url`."""
        create = getattr(importlib.import_module(self.package), self.factory)
        application: web.Application = create(url)
        return application


SERVICES = {
    service.name: service
    for service in (Service("projects", 6551), Service("experiments", 6552), Service("results", 6553))
}
# The only port that may be public: it receives events, and its processes hold no key.
EVENTS = Service("events", 6554, part_of="results", factory="create_public_application")


def run_service(
    name: str,
    host: str = DEFAULT_HOST,
    port: int | None = None,
    workers: int = 1,
    database_url: str | None = None,
) -> None:
    """Serve the service `name`, or `events`, until TERM or INT; requests in flight are finished first.

    Its database (`database_url`, by default that of `default_database_url`) is migrated before the first worker
    starts. Ends by SystemExit, with gunicorn's status. Raises KeyError for an unknown name, and CannotStart for an
    invalid URL, a missing or invalid key, an invalid variable of the environment, and a release of gunicorn or aiohttp
    that does not fit.
    """
    service = EVENTS if name == EVENTS.name else SERVICES[name]
    relied_on.check()
    limits = limits_from_environment(name)
    url = parse_database_url(database_url or default_database_url(service.owner))
    if service is not EVENTS:
        read_keys(os.environ)  # fails before the database is touched; each worker reads the keys again
    importlib.import_module(service.package).check_environment()
    text = url.render_as_string(hide_password=False)
    logging.config.dictConfig(logging_configuration())
    migrate(text, service.migrations)
    end_on_signals_after_fork()
    boot_failures.install()
    reloading.install()
    log.info("the %s service uses %s", name, url.render_as_string(hide_password=True))
    options = {
        "bind": f"{f'[{host}]' if ':' in host else host}:{service.port if port is None else port}",
        "workers": workers,
        "worker_class": worker_class(limits),
        "backlog": limits.backlog,
        "graceful_timeout": GRACEFUL_TIMEOUT_SECONDS,
        "proc_name": f"optimizely-api-{name}",
        "logconfig_dict": logging_configuration(),
        # gunicorn's control socket has one default path, which three services cannot share.
        "control_socket_disable": True,
        # Shared memory where it exists: a disk may be slow or read-only.
        "worker_tmp_dir": SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None,
    }
    # The objects of the start live as long as the process. The garbage collector would go through all of them several
    # times at the end of each worker and then of the master, while nobody serves: a third of the time of a restart.
    gc.collect()
    gc.freeze()
    _Gunicorn(options, lambda: service.create_application(text)).run()


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """Gunicorn with options from Python: no command line, no configuration file, no current folder."""

    def __init__(self, options: dict[str, Any], create: Callable[[], web.Application]) -> None:
        self.options = options
        self.create = create
        super().__init__()

    def load_config(self) -> None:
        for key, value in self.options.items():
            self.cfg.set(key, value)

    def load(self) -> web.Application:
        # Runs in each worker, and in the trial before a reload, where it fails as the new workers would.
        return self.create()


def logging_configuration() -> dict[str, Any]:
    """A `logging.config.dictConfig` dictionary: everything as JSON lines, to standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JSONLines}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stdout}
        },
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            "alembic": {"level": "WARNING"},
            "aiosqlite": {"level": "WARNING"},  # its debugging shows every parameter, hashes of tokens too
            "gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False},
            "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False},
        },
    }
