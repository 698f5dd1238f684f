"""The server's side of ASGI, for tests that call the bridge without a socket."""

import asyncio

from optimizely_api.runtime import AsgiBridge
from optimizely_api.runtime.bridge import CANCELS_ON_DISCONNECT


def http_scope(path="/", *, method="GET", headers=(), query="", cancels=False, **more):
    """A scope as gunicorn builds it; with `cancels` the server itself cancels a request whose client has gone."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", b"api.test"), *headers],
        "server": ("127.0.0.1", 6543),
        "client": ("192.0.2.7", 40000),
        **more,
    }
    if cancels:
        scope["extensions"] = {CANCELS_ON_DISCONNECT: {}}
    return scope


class Exchange:
    """One request to `bridge`: the messages of the server and the messages of the bridge."""

    def __init__(self, bridge, scope, body=(b"",)):
        self.sent = []
        self.inbox = asyncio.Queue()
        chunks = list(body)
        for index, chunk in enumerate(chunks):
            more = index < len(chunks) - 1
            self.inbox.put_nowait({"type": "http.request", "body": chunk, "more_body": more})
        self.sending = self._store
        self._bridge = bridge
        self._scope = scope

    async def run(self):
        await self._bridge(self._scope, self.inbox.get, self._send)
        return self

    def disconnect(self):
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def _send(self, message):
        await self.sending(message)

    async def _store(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def body(self):
        return b"".join(message["body"] for message in self.sent[1:])


async def call(application, scope=None, body=(b"",)):
    """Send one request to a WSGI application through a bridge; returns the finished Exchange."""
    bridge = application if isinstance(application, AsgiBridge) else AsgiBridge(application, registry={})
    return await Exchange(bridge, scope or http_scope(), body).run()
