"""The level of an experiment that names none: its project's `confidence_threshold`, asked for when it is started."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from optimizely_api.services.experiments.schema import DEFAULT_LEVEL
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.log import REQUEST_ID
from optimizely_api.services_key import authorization, read_keys
from optimizely_api.start_failures import InvalidVariable

PROJECTS_URL = "OPTIMIZELY_API_PROJECTS_URL"  # as the gateway knows it
TIMEOUT = aiohttp.ClientTimeout(total=2.0)

log = logging.getLogger("optimizely_api.services.experiments")


class Levels:
    """Asks the projects service; without its address every level is DEFAULT_LEVEL."""

    def __init__(self, session: aiohttp.ClientSession, projects_url: str) -> None:
        self._session, self._url = session, projects_url.rstrip("/")

    async def of_project(self, project_id: int, request_id: str) -> float:
        """The project's threshold now; DEFAULT_LEVEL for a project that is not there.

        Raises a ServiceError (503) when the projects service does not say.
        """
        if not self._url:
            return DEFAULT_LEVEL
        path, headers = f"{self._url}/projects/{project_id}", {"X-Request-Id": request_id}
        try:
            async with self._session.get(path, headers=headers) as response:
                if response.status == 404:
                    return DEFAULT_LEVEL
                response.raise_for_status()
                return float((await response.json())["confidence_threshold"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as exc:
            log.warning("the projects service does not say the threshold of project %d: %r", project_id, exc)
            raise ServiceError(
                503, "unavailable", "the projects service does not say the project's confidence_threshold"
            ) from exc


LEVELS = web.AppKey("levels", Levels)


def projects_url() -> str:
    """OPTIMIZELY_API_PROJECTS_URL of the environment, "" without one. Raises InvalidVariable for what is no address."""
    text = os.environ.get(PROJECTS_URL, "")
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_address = False
    if text and not is_address:
        raise InvalidVariable(
            f"{PROJECTS_URL} must be an address such as http://127.0.0.1:6551, not {text!r}"
        )
    return text


async def with_levels(app: web.Application) -> AsyncIterator[None]:
    """Keep one session for the application's life."""
    url = projects_url()
    if not url:
        log.warning("%s is not set: experiments without a level start with %s", PROJECTS_URL, DEFAULT_LEVEL)
    headers = authorization(read_keys(os.environ)[0])
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        app[LEVELS] = Levels(session, url)
        yield


async def level_of_project(request: web.Request, project_id: int | None) -> float | None:
    """The threshold of the project that `store` says is needed, or None."""
    if project_id is None:
        return None
    return await request.app[LEVELS].of_project(project_id, request[REQUEST_ID])
