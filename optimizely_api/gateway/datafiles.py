"""Datafiles in the gateway: naming environments to the service that builds datafiles, and keeping what it has built.

A worker keeps each datafile with its codings, and asks the service with its ETag when `datafile_cache_seconds` are
over or a write went through this gunicorn: polls cost one read for each revision, and few confirmations.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from cachetools import LRUCache, TTLCache
from pyramid.request import Request

from optimizely_api.gateway.environments import ENVIRONMENTS
from optimizely_api.gateway.errors import NotFound
from optimizely_api.gateway.finishing import ON_LOOP_BYTES
from optimizely_api.gateway.resource import PROJECTS, Entity
from optimizely_api.gateway.settings import Settings
from optimizely_api.gateway.upstreams import CLIENT
from optimizely_api.http.codings import compress
from optimizely_api.http.entity_tags import entity_tag
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.generations import Snapshot
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import EntityNotFound

KEPT = "optimizely_api.gateway.datafiles"  # where the registry has the worker's datafiles
UNKNOWN_KEYS = 10_000  # remembered at a time

_SDK_KEY = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, eq=False)
class Datafile:
    """One revision of a datafile as it is served. `built` is a time of whole seconds, another for each revision."""

    value: Mapping[str, Any] = field(
        repr=False
    )  # the service's response, the same object until there is a new one
    body: bytes = field(repr=False)
    etag: str
    built: datetime
    last_modified: str
    coded: dict[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Datafile":
        """Read the service's response."""
        body, built = (
            value["content"].encode(),
            datetime.fromisoformat(value["last_modified"]).astimezone(UTC),
        )
        return cls(value, body, entity_tag(body), built, format_datetime(built, usegmt=True))

    async def in_coding(self, coding: str | None) -> bytes:
        """The body in a content coding, which is computed once."""
        if coding is None:
            return self.body
        if coding not in self.coded:
            if len(self.body) <= ON_LOOP_BYTES:
                self.coded[coding] = compress(coding, self.body)
            else:
                self.coded[coding] = await asyncio.to_thread(compress, coding, self.body)
        return self.coded[coding]


class KeptDatafiles:
    """The datafiles that a worker has served, and the SDK keys that no environment has."""

    def __init__(self, settings: Settings) -> None:
        self._datafiles: LRUCache[str, Datafile] = LRUCache(
            settings.definition_cache_bytes, getsizeof=lambda datafile: 2 * len(datafile.body)
        )
        seconds = settings.datafile_cache_seconds
        self._unknown: TTLCache[str, Snapshot] = TTLCache(UNKNOWN_KEYS, seconds, timer=time.monotonic)

    async def get(self, request: Request, sdk_key: str) -> Datafile:
        """Return the present datafile; raises NotFound for a key of no environment, and for an archived one's."""
        refused = self._unknown.get(sdk_key)
        if not _SDK_KEY.fullmatch(sdk_key) or (refused is not None and refused.is_current):
            raise NotFound("datafile for this SDK key")
        call = calls.get_built_datafile(sdk_key)
        snapshot = request.registry[CLIENT].generations.snapshot(call)
        try:
            value = await self._fetch(request, call, sdk_key)
        except EntityNotFound:
            self._unknown[sdk_key] = snapshot
            raise NotFound("datafile for this SDK key") from None
        kept = self._datafiles.get(sdk_key)
        if kept is None or kept.value is not value:
            kept = Datafile.of(value)
            self._datafiles.pop(sdk_key, None)
            if 2 * len(kept.body) <= self._datafiles.maxsize:
                self._datafiles[sdk_key] = kept
        return kept

    async def _fetch(self, request: Request, call: Call, sdk_key: str) -> Mapping[str, Any]:
        try:
            known: Mapping[str, Any] = await request.fetch(call)
            return known
        except EntityNotFound:
            # Of an environment that has not been named yet: one of an earlier release, say.
            owner = await request.fetch(calls.find_sdk_key(sdk_key))
            environment = await request.fetch(
                calls.get_entity(ENVIRONMENTS, owner["environment_id"], fresh=True)
            )
            await register(request, [environment])
            named: Mapping[str, Any] = await request.fetch(call)
            return named


async def register(
    request: Request, environments: Iterable[Mapping[str, Any]], *, written: bool = False
) -> dict[int, Any]:
    """Name environments to the service that builds datafiles; returns its {"revision", "size"} by their ids.

    After a write (`written`) no worker uses a datafile that it had before.
    """
    by_project: dict[int, list[Mapping[str, Any]]] = {}
    for environment in environments:
        by_project.setdefault(environment["project_id"], []).append(environment)
    projects = await request.fetch_all(
        [calls.get_entity(PROJECTS, project_id, fresh=written) for project_id in by_project]
    )
    known: dict[int, Any] = {}
    for project in projects:
        body = _registration(project, by_project[project["id"]])
        listed = await request.fetch(calls.register_environments(body, changes_nothing=not written))
        known |= {item["environment_id"]: item for item in listed["items"]}
    return known


def _registration(project: Entity, environments: Iterable[Mapping[str, Any]]) -> Entity:
    return {
        "account_id": project["account_id"],
        "project_id": project["id"],
        "platform": project.get("platform", "web"),
        "anonymize_ip": project.get("web_snippet", {}).get("ip_anonymization", True),
        "project_version": project["last_modified"],
        "environments": [
            {
                "id": environment["id"],
                "key": environment["key"],
                "sdk_key": environment["datafile"]["sdk_key"],
                "is_primary": environment["is_primary"],
                "archived": environment["archived"],
                "version": environment["last_modified"],
            }
            for environment in environments
        ],
    }
