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
Address = tuple[Any, Any] | None  # (host, port); of a Unix socket the port is no number

log = logging.getLogger(__name__)


class ErrorStream:
    """`wsgi.errors`: what the application writes there goes to the log."""

    def write(self, text: str) -> int:
        if text.strip():
            log.error("%s", text.rstrip())
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""


_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_SAME_FOR_ALL: Environ = {
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

    `X_Real` and `X-Real` would share a key, so that a client could forge what only a proxy may set; and
    `Proxy` would become HTTP_PROXY, which HTTP clients take for their own setting (httpoxy.org).
    """
    if b"_" in name or name == b"proxy":
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def build_environ(scope: Scope) -> Environ:
    """The environ of a request, all but `wsgi.input`.

    Client address and scheme are those of the scope: the server has already decided which proxies it trusts.
    """
    connection = connection_environ(
        scope.get("scheme", "http"), scope.get("server"), scope.get("client"), scope.get("root_path", "")
    )
    return request_environ(
        connection,
        method=scope["method"],
        # The raw path is read, not `path`, which servers decode as UTF-8 and so lose bytes that are none.
        path=scope.get("raw_path") or scope["path"].encode("utf-8"),
        query=scope["query_string"].decode("latin-1"),
        protocol="HTTP/" + scope["http_version"],
        headers=scope["headers"],
    )


def connection_environ(scheme: str, server: Address, client: Address, root_path: str) -> Environ:
    """What the requests of one connection have in common, as long as they have the scheme in common."""
    server_name, server_port = server or ("", None)
    if not isinstance(server_port, int):  # a Unix socket
        server_name, server_port = "localhost", 443 if scheme == "https" else 80
    environ = _SAME_FOR_ALL.copy()
    environ["SCRIPT_NAME"] = root_path.rstrip("/").encode("utf-8").decode("latin-1")
    # RFC 3875 section 4.1.14 has an IPv6 address in brackets, without its zone: it goes into URLs as it is.
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
    """The environ of one request of a connection; `path` is the target without its query, as it was sent."""
    environ = connection.copy()
    below, authority = _path_info(path, environ["SCRIPT_NAME"])
    environ["REQUEST_METHOD"] = method
    environ["PATH_INFO"] = below
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = protocol
    _add_headers(environ, headers)
    if authority is not None:
        environ["HTTP_HOST"] = authority.decode("latin-1")
    elif not environ.get("HTTP_HOST", "-"):
        # Host is empty, which RFC 9112 section 3.2 allows; the address of the connection stands in (section 3.3), as
        # it does for HTTP/1.0 without Host: PEP 3333 has the application use SERVER_NAME then.
        del environ["HTTP_HOST"]
    return environ


def path_info(raw: bytes, root_path: str) -> str:
    """PATH_INFO of a target without its query, as it was sent, under the server's own path prefix."""
    return _path_info(raw, root_path.rstrip("/").encode("utf-8").decode("latin-1"))[0]


def _path_info(raw: bytes, root: str) -> tuple[str, bytes | None]:
    """(PATH_INFO, authority or None); the path's bytes are decoded with latin-1 (PEP 3333)."""
    authority = None
    if not raw.startswith(b"/") and (absolute := split_absolute(raw)) is not None:
        authority, raw = absolute
    path = decoded_path(raw)
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path, authority


def decoded_path(raw: bytes) -> str:
    """A path percent-decoded, its bytes as latin-1 (PEP 3333), but for slashes inside a segment: they stay `%2F`.

    A segment with a slash in it would otherwise be two (RFC 3986 section 2.2). Nothing decodes the path again.
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
