"""Webhooks: addresses of callers that are called when something of a project changes."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.resource import Resource, operation, visible_project

WEBHOOKS = Resource("Webhook", "projects")
SECRET_BYTES = 32


def _secret(operation: str) -> str:
    """A new secret; of an operation that may be carried out again, the same one each time.

    The id of an operation is random, and known to nobody but the services.
    """
    if not operation:
        return secrets.token_urlsafe(SECRET_BYTES)
    return urlsafe_b64encode(hashlib.sha256(operation.encode()).digest()).rstrip(b"=").decode()


@operation
async def list_webhooks(request: Request) -> list[Any]:
    return await WEBHOOKS.list(request)


@operation
async def create_webhook(request: Request) -> dict[str, Any]:
    """The secret is made here: the service keeps it and never shows it, so that this is the only response with it."""
    project = await visible_project(request, request.swagger_data["project_id"])
    secret = _secret(request.claimed_operation)
    webhook = await WEBHOOKS.create(request, project_id=project["id"], secret=secret)
    return {**webhook, "secret": secret}


@operation
async def get_webhook(request: Request) -> dict[str, Any]:
    return await WEBHOOKS.get(request)


@operation
async def update_webhook(request: Request) -> dict[str, Any]:
    return await WEBHOOKS.update(request)


@operation
async def delete_webhook(request: Request) -> None:
    await WEBHOOKS.archive(request)
