"""A project for SDKs with two environments, as the gateway names them to the experiments service."""

from __future__ import annotations

import json
from typing import Any

import pytest_asyncio

from tests.services.conftest import Caller

OWNER = {"account_id": 11, "project_id": 22}
PRODUCTION, DEVELOPMENT = 31, 32
NOON = "2026-01-05T12:00:00.000000Z"


def environment(environment_id: int, key: str, **members: Any) -> dict[str, Any]:
    """An environment as the gateway names it."""
    known = {"id": environment_id, "key": key, "sdk_key": f"sdk-{environment_id}", "archived": False}
    return {**known, "is_primary": environment_id == PRODUCTION, "version": NOON, **members}


def registration(*environments: Any, **members: Any) -> dict[str, Any]:
    """The body that names environments of the project."""
    project = {**OWNER, "platform": "custom", "anonymize_ip": True, "project_version": NOON}
    return {**project, **members, "environments": list(environments)}


class DatafileCaller:
    """A caller of the experiments service that reads datafiles."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def register(self, *environments: Any, **members: Any) -> list[Any]:
        """Name environments; returns what the service says of their datafiles."""
        status, body = await self.caller.post("/datafiles", registration(*environments, **members))
        assert status == 200, body
        items: list[Any] = body["items"]
        return items

    async def served(self, environment_id: int = PRODUCTION) -> Any:
        """What the service serves of a datafile."""
        status, body = await self.caller.get(f"/datafiles/sdk-{environment_id}")
        assert status == 200, body
        return body

    async def datafile(self, environment_id: int = PRODUCTION) -> Any:
        """A datafile, parsed."""
        return json.loads((await self.served(environment_id))["content"])

    async def made(self, path: str, **body: Any) -> Any:
        """Create something in the project."""
        return await self.caller.made(path, {**OWNER, **body})

    async def patched(self, path: str, **body: Any) -> Any:
        """Change something."""
        status, changed = await self.caller.patch(path, body)
        assert status == 200, changed
        return changed

    async def experiment(self, key: str = "checkout", action: str = "start", **members: Any) -> Any:
        """An experiment of two variations."""
        variations = [{"key": name, "weight": 5000} for name in ("control", "treatment")]
        path = f"/experiments?action={action}" if action else "/experiments"
        return await self.made(
            path, **{"key": key, "platform": "custom", "variations": variations, **members}
        )

    async def audience(self, conditions: Any, **members: Any) -> Any:
        """An audience."""
        text = json.dumps(conditions)
        return await self.made("/audiences", platform="custom", conditions=text, **members)


@pytest_asyncio.fixture
async def project(experiments: Caller) -> DatafileCaller:
    """A caller about a project whose two environments the service knows."""
    caller = DatafileCaller(experiments)
    await caller.register(environment(PRODUCTION, "production"), environment(DEVELOPMENT, "development"))
    return caller
