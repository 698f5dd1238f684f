"""Starting the sender with the service."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from optimizely_api.services.http.addresses import EXPERIMENTS_URL
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.feed_reader import TIMEOUT
from optimizely_api.services.projects.delivery import post
from optimizely_api.services.projects.delivery.feeds import feeds_of
from optimizely_api.services.projects.delivery.sender import Sender
from optimizely_api.services.projects.delivery.settings import read_settings
from optimizely_api.services_key import authorization, read_keys

log = logging.getLogger("optimizely_api.services.projects.delivery")


async def with_sender(app: web.Application) -> AsyncIterator[None]:
    """Run a sender for the life of the application; of those of all workers, one works."""
    settings = read_settings()
    if not settings.experiments_url:
        log.warning("%s is not set: webhooks are not called", EXPERIMENTS_URL)
        yield
        return
    headers = authorization(read_keys(os.environ)[0])
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
        post.opened(allow_private=settings.allow_private) as posting,
        Sender(app[DATABASE], feeds_of(settings, session, app[DATABASE]), posting).running(),
    ):
        yield
