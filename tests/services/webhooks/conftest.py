"""Real services, a real receiver, and a sender whose clock the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from optimizely_api.services.projects.delivery import post
from optimizely_api.services.projects.delivery.feeds import feeds_of
from optimizely_api.services.projects.delivery.post import Post
from optimizely_api.services.projects.delivery.sender import Sender, Surroundings
from optimizely_api.services.projects.delivery.settings import Settings
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, Serve, session_with_key
from tests.services.webhooks.receiver import Receiver, receiving

PUBLIC_URL = "https://api.shop.example"
TIME_LIMIT_SECONDS = 2.0


class Clock:
    """A clock that stands unless it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        """The time of this clock."""
        return self.moment

    def move(self, **parts: float) -> None:
        """Move it forward."""
        self.moment += timedelta(**parts)


class Shop:
    """A project in both services, whose changes webhooks are called for."""

    def __init__(self, projects: Caller, experiments: Caller, project: dict[str, Any]) -> None:
        self.projects, self.experiments = projects, experiments
        self.owner = {"account_id": project["account_id"], "project_id": project["id"]}
        self._number = 0

    async def webhook(self, url: str, *events: str) -> Any:
        """A webhook that hears of attributes, or of `events`."""
        listens = list(events) or ["project.attribute_created"]
        body = {**self.owner, "name": "Listener", "url": url, "events": listens, "secret": "s" * 32}
        return await self.projects.made("/webhooks", body)

    async def change(self) -> str:
        """Create an attribute; the summary of the change."""
        self._number += 1
        key = f"key-{self._number:03}"
        await self.experiments.made("/attributes", {**self.owner, "key": key})
        return f"Created attribute {key}"

    async def changes(self, count: int) -> list[str]:
        """Create several, one after the other."""
        return [await self.change() for _ in range(count)]

    async def named_environments(self) -> dict[str, Any]:
        """The project's environments by name, after the service that builds datafiles has got to know them."""
        query = f"?project_id={self.owner['project_id']}"
        environments = (await self.projects.get(f"/environments{query}"))[1]["items"]
        names = ("id", "key", "is_primary", "archived")
        body = {
            **self.owner,
            "platform": "custom",
            "anonymize_ip": True,
            "project_version": environments[0]["created"],
            "environments": [
                {
                    **{name: one[name] for name in names},
                    "sdk_key": one["datafile"]["sdk_key"],
                    "version": one["last_modified"],
                }
                for one in environments
            ],
        }
        status, answer = await self.experiments.post("/datafiles", body)
        assert status == 200, answer
        return {one["name"]: one for one in environments}

    async def named_snippet(self) -> Any:
        """The project's snippet, after the service that builds it has got to know it."""
        project = {**self.owner, "version": "2026-01-05T12:00:00Z", "settings": {}}
        status, answer = await self.experiments.post("/snippets", {"projects": [project]})
        assert status == 200, answer
        return answer["items"][0]

    async def pages(self, count: int) -> None:
        """Create pages, each of which changes the snippet."""
        for _ in range(count):
            body = {**self.owner, "name": "Cart", "edit_url": "https://shop.example/cart"}
            await self.experiments.made("/pages", body)

    async def deliveries(self, webhook: Any, state: str = "") -> list[Any]:
        """What the operator's command shows, oldest first."""
        status, body = await self.projects.get(f"/webhooks/{webhook['id']}/deliveries?per_page=1000")
        assert status == 200, body
        return [item for item in reversed(body["items"]) if state in ("", item["state"])]

    async def until(self, condition: Callable[[list[Any]], bool], webhook: Any) -> list[Any]:
        """Wait until the webhook's deliveries are as the condition wants."""
        async with asyncio.timeout(20):
            while not condition(found := await self.deliveries(webhook)):
                await asyncio.sleep(0.01)
            return found

    @asynccontextmanager
    async def sender(self, clock: Clock, posting: Any = None) -> AsyncIterator[Sender]:
        """A sender on the database of the projects service, as in another worker of it."""
        async with self._idle_sender(clock, posting) as sender, sender.running():
            yield sender

    @asynccontextmanager
    async def crashing_sender(self, clock: Clock) -> AsyncIterator[Sender]:
        """A sender that ends as if its process were killed: in the middle of its work, with the lease in its hands."""
        async with self._idle_sender(clock) as sender:
            running = asyncio.create_task(sender._run())
            yield sender
            tasks = [running, *sender._readers.values(), *sender._calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _idle_sender(self, clock: Clock, posting: Any = None) -> AsyncIterator[Sender]:
        settings = Settings(self.experiments.url, PUBLIC_URL, allow_private=True)
        around = Surroundings(clock.now, random=lambda: 0.0, look_seconds=0.01, pause_seconds=0.05)
        async with AsyncExitStack() as stack:
            database = Database(self.projects.database_url)
            stack.push_async_callback(database.close)
            session = await stack.enter_async_context(session_with_key())
            if posting is None:
                posting = await stack.enter_async_context(opened_post())
            yield Sender(database, feeds_of(settings, session, database), posting, around)


def opened_post(*, allow_private: bool = True) -> AbstractAsyncContextManager[Post]:
    """What calls receivers, for tests that have no ten seconds."""
    return post.opened(allow_private=allow_private, time_limit_seconds=TIME_LIMIT_SECONDS)


@pytest_asyncio.fixture
async def shop(serve: Serve) -> Shop:
    """A project, in two services that call nobody by themselves."""
    projects, experiments = await serve("projects"), await serve("experiments")
    account = await projects.made("/accounts", {"name": "Shop"})
    project = await projects.made(
        "/projects", {"account_id": account["id"], "name": "Shop", "platform": "custom"}
    )
    return Shop(projects, experiments, project)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that acknowledges."""
    async with receiving() as receiver:
        yield receiver
