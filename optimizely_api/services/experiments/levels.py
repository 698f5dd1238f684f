"""The confidence level of an experiment without one: its project's `confidence_threshold`, fetched at its start."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from optimizely_api.services.experiments.schema import DEFAULT_LEVEL
from optimizely_api.services.http.addresses import PROJECTS_URL, projects_url
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.log import REQUEST_ID
from optimizely_api.services_key import authorization, read_keys

TIMEOUT = aiohttp.ClientTimeout(total=2.0)

log = logging.getLogger("optimizely_api.services.experiments")


class Levels:
    """A client of the projects service; without an address every level is DEFAULT_LEVEL."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def of_project(self, project_id: int, request_id: str) -> float:
        """The project's present threshold; DEFAULT_LEVEL for an unknown project.

        Raises a ServiceError (503) when the projects service fails.
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


async def with_levels(app: web.Application) -> AsyncIterator[None]:
    """Open one client session for the life of the application."""
    url = projects_url()
    if not url:
        log.warning("%s is not set: experiments without a level start with %s", PROJECTS_URL, DEFAULT_LEVEL)
    headers = authorization(read_keys(os.environ)[0])
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        app[LEVELS] = Levels(session, url)
        yield


async def level_of_project(request: web.Request, project_id: int | None) -> float | None:
    """The threshold of the project, None without one."""
    if project_id is None:
        return None
    return await request.app[LEVELS].of_project(project_id, request[REQUEST_ID])
