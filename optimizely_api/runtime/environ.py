"""The WSGI environ (PEP 3333) of an ASGI HTTP scope."""

import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from optimizely_api.runtime.authority import split_absolute

Scope = dict[str, Any]
Environ = dict[str, Any]
Address = tuple[Any, Any] | None  # (host, port); the port of a Unix socket is not a number

log = logging.getLogger(__name__)


class ErrorStream:
    """`wsgi.errors`: passes the application's text to the log."""

    def write(self, text: str) -> int:
        if text.strip():
            log.error("%s", text.rstrip())
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing to do: there is no buffer."""


_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_CONSTANT_KEYS: Environ = {
    "wsgi.version": (1, 0),
    "wsgi.errors": ErrorStream(),
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


@lru_cache(maxsize=512)
def environ_key(name: bytes) -> str | None:
    """The environ's key for a lower-case header name; None for a header that must not reach the application.

    `X_Real` and `X-Real` would share a key, so a client could forge a header that only a proxy may set. `Proxy` would
    become HTTP_PROXY, which HTTP client libraries read as their own setting (httpoxy.org).
    """
    if b"_" in name or name == b"proxy":
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def build_environ(scope: Scope) -> Environ:
    """Return the environ of a request, without `wsgi.input`.

    Client address and scheme come from the scope: the server has already decided which proxies it trusts.
    """
    connection = connection_environ(
        scope.get("scheme", "http"), scope.get("server"), scope.get("client"), scope.get("root_path", "")
    )
    return request_environ(
        connection,
        method=scope["method"],
        # Not from `path`: servers decode that as UTF-8, and so lose bytes that are not UTF-8.
        path=scope.get("raw_path") or scope["path"].encode("utf-8"),
        query=scope["query_string"].decode("latin-1"),
        protocol="HTTP/" + scope["http_version"],
        headers=scope["headers"],
    )


def connection_environ(scheme: str, server: Address, client: Address, root_path: str) -> Environ:
    """Return the keys that all requests of one connection with the same scheme share."""
    server_name, server_port = server or ("", None)
    if not isinstance(server_port, int):  # a Unix socket
        server_name, server_port = "localhost", 443 if scheme == "https" else 80
    environ = _CONSTANT_KEYS.copy()
    environ["SCRIPT_NAME"] = root_path.rstrip("/").encode("utf-8").decode("latin-1")
    # RFC 3875 section 4.1.14: an IPv6 address is in brackets, without its zone. WebOb copies it into URLs unchanged.
    environ["SERVER_NAME"] = f"[{server_name.partition('%')[0]}]" if ":" in server_name else server_name
    environ["SERVER_PORT"] = str(server_port)
    environ["wsgi.url_scheme"] = scheme
    environ["REMOTE_ADDR"] = ""
    if client:
        environ["REMOTE_ADDR"] = client[0]
        environ["REMOTE_PORT"] = str(client[1])
    return environ


def request_environ(
    connection: Environ,
    *,
    method: str,
    path: bytes,
    query: str,
    protocol: str,
    headers: Iterable[tuple[bytes, bytes]],
) -> Environ:
    """Return the environ of one request of a connection; `path` is the raw target without its query."""
    environ = connection.copy()
    path_below_root, authority = _path_info(path, environ["SCRIPT_NAME"])
    environ["REQUEST_METHOD"] = method
    environ["PATH_INFO"] = path_below_root
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = protocol
    _add_headers(environ, headers)
    if authority is not None:
        environ["HTTP_HOST"] = authority.decode("latin-1")
    elif not environ.get("HTTP_HOST", "-"):
        # RFC 9112 section 3.2 allows an empty Host. The address of the connection replaces it (section 3.3), as for
        # HTTP/1.0 without Host: PEP 3333 tells the application to use SERVER_NAME then.
        del environ["HTTP_HOST"]
    return environ


def path_info(raw: bytes, root_path: str) -> str:
    """Return PATH_INFO for a raw target without its query, below the server's own path prefix."""
    return _path_info(raw, root_path.rstrip("/").encode("utf-8").decode("latin-1"))[0]


def _path_info(raw: bytes, root: str) -> tuple[str, bytes | None]:
    """Return (PATH_INFO, authority or None); the bytes of the path are decoded as latin-1 (PEP 3333)."""
    authority = None
    if not raw.startswith(b"/") and (absolute := split_absolute(raw)) is not None:
        authority, raw = absolute
    path = decoded_path(raw)
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path, authority


def decoded_path(raw: bytes) -> str:
    """Percent-decode a path, its bytes as latin-1 (PEP 3333), but keep encoded slashes as `%2F`.

    A decoded slash would split its segment in two (RFC 3986 section 2.2). Nothing decodes the path again.
    """
    if b"%" in raw:
        raw = unquote_to_bytes(_ENCODED_SLASH.sub(rb"%252F", raw))
    return raw.decode("latin-1")


def _add_headers(environ: Environ, headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        key = environ_key(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            # RFC 9110 section 5.3; RFC 6265 section 5.4 for cookies, which HTTP/2 splits.
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
