"""Serve any ASGI application on a connection, such as the error page that `--reload` shows for a broken one."""

import asyncio
from typing import Any

from optimizely_api.runtime.connection import Message
from optimizely_api.runtime.server.http1.response import Exchange


async def serve_asgi(application: Any, scope: dict[str, Any], exchange: Exchange) -> None:
    """Call the application for one request; the body comes in one message."""
    body = exchange.body
    has_read = False

    async def receive() -> Message:
        nonlocal has_read
        if has_read:
            await asyncio.Event().wait()  # the task is cancelled when the client has gone
        has_read = True
        content = b"" if body is None else (await body.read()).getvalue()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            message = {**message, "headers": headers}
        await exchange.send(message)

    await application(scope, receive, send)
