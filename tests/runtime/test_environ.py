"""The WSGI environ that the application gets (PEP 3333)."""

import logging

import pytest

from optimizely_api.runtime.environ import build_environ
from tests.runtime.asgi import call, http_scope


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param({"raw_path": b"/v2/a"}, ("", "/v2/a"), id="a plain path"),
        pytest.param({"raw_path": b"/a%62%20c"}, ("", "/ab c"), id="percent-decoded"),
        pytest.param(
            {"raw_path": b"/a%2Fb%2fc"}, ("", "/a%2Fb%2Fc"), id="a slash inside a segment stays encoded"
        ),
        pytest.param({"raw_path": b"/a%252Fb"}, ("", "/a%2Fb"), id="decoded once"),
        pytest.param({"raw_path": b"/a/%2e%2E/b"}, ("", "/a/../b"), id="dots lead nowhere"),
        pytest.param(
            {"raw_path": b"/a//b;c=d"}, ("", "/a//b;c=d"), id="empty segments and parameters are kept"
        ),
        pytest.param({"raw_path": b"/caf%C3%A9"}, ("", "/caf\xc3\xa9"), id="UTF-8 bytes as latin-1"),
        pytest.param({"raw_path": b"/%ff%fe"}, ("", "/\xff\xfe"), id="bytes that are no UTF-8 are kept"),
        pytest.param({"raw_path": b"/%zz"}, ("", "/%zz"), id="a percent sign that escapes nothing"),
        pytest.param({"raw_path": None, "path": "/é"}, ("", "/\xc3\xa9"), id="without a raw path"),
        pytest.param(
            {"raw_path": b"/v2/a", "root_path": "/api"}, ("/api", "/v2/a"), id="root cut off by a proxy"
        ),
        pytest.param(
            {"raw_path": b"/api/v2/a", "root_path": "/api"}, ("/api", "/v2/a"), id="root in the path"
        ),
        pytest.param({"raw_path": b"/api", "root_path": "/api"}, ("/api", ""), id="the root itself"),
        pytest.param(
            {"raw_path": b"/apis", "root_path": "/api/"}, ("/api", "/apis"), id="only looks like the root"
        ),
        pytest.param({"raw_path": b"http://h/v2/a"}, ("", "/v2/a"), id="absolute form"),
        pytest.param({"raw_path": b"http://h"}, ("", "/"), id="absolute form without a path"),
        pytest.param({"raw_path": b"/v2/http://h/a"}, ("", "/v2/http://h/a"), id="a URL inside the path"),
        pytest.param({"raw_path": b"*"}, ("", "*"), id="asterisk form"),
    ],
)
def test_script_name_and_path_info(scope, expected):
    environ = build_environ(http_scope(**scope))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


@pytest.mark.parametrize(
    ("headers", "key", "expected"),
    [
        pytest.param([(b"accept", b"a/b")], "HTTP_ACCEPT", "a/b", id="a header"),
        pytest.param([(b"accept", b"a/b"), (b"accept", b"c/d")], "HTTP_ACCEPT", "a/b,c/d", id="repeated"),
        pytest.param(
            [(b"cookie", b"a=1"), (b"cookie", b"b=2")], "HTTP_COOKIE", "a=1; b=2", id="repeated cookie"
        ),
        pytest.param([(b"x-name", b"caf\xe9")], "HTTP_X_NAME", "caf\xe9", id="latin-1"),
        pytest.param([(b"content-type", b"text/plain")], "CONTENT_TYPE", "text/plain", id="content type"),
        pytest.param([(b"content-length", b"0")], "CONTENT_LENGTH", "0", id="content length"),
        pytest.param([(b"x_real_ip", b"1.2.3.4")], "HTTP_X_REAL_IP", None, id="an underscore is no dash"),
        pytest.param([(b"proxy", b"http://evil")], "HTTP_PROXY", None, id="httpoxy"),
    ],
)
def test_headers(headers, key, expected):
    assert build_environ(http_scope(headers=headers)).get(key) == expected


def test_the_authority_of_an_absolute_target_wins_over_host():
    assert build_environ(http_scope(raw_path=b"http://real:81/"))["HTTP_HOST"] == "real:81"


@pytest.mark.parametrize("raw_path", [b"http://u@h/", b"http:///", b"x://h/", b"http://a>;rel=x,<b/"])
def test_an_invalid_absolute_target_sets_no_host(raw_path):
    environ = build_environ(http_scope(raw_path=raw_path))
    assert (environ["HTTP_HOST"], environ["PATH_INFO"]) == ("api.test", raw_path.decode())


def test_an_empty_host_counts_as_no_host():
    assert "HTTP_HOST" not in build_environ({**http_scope(), "headers": [(b"host", b"")]})


def test_client_server_scheme_protocol_and_query():
    environ = build_environ(http_scope(method="PATCH", query="a=1&b=%C3%A9", scheme="https"))
    chosen = "REQUEST_METHOD REMOTE_ADDR REMOTE_PORT SERVER_NAME SERVER_PORT SERVER_PROTOCOL QUERY_STRING"
    values = [environ[key] for key in chosen.split()]
    assert values == ["PATCH", "192.0.2.7", "40000", "127.0.0.1", "6543", "HTTP/1.1", "a=1&b=%C3%A9"]
    assert environ["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("server", [("/run/gateway.sock", None), ("/", "r"), None])
def test_a_unix_socket_gets_a_name_and_a_port_too(server):
    environ = build_environ(http_scope(server=server, client=None))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert environ["REMOTE_ADDR"] == ""


async def test_the_environ_passes_the_wsgi_validator():
    from wsgiref.validate import validator

    seen = {}

    @validator
    def application(environ, start_response):
        seen["body"] = environ["wsgi.input"].read(10)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    headers = [(b"content-length", b"4"), (b"content-type", b"text/plain")]
    exchange = await call(application, http_scope(method="POST", headers=headers), [b"bo", b"dy"])
    assert (exchange.body, seen["body"]) == (b"ok", b"body")


def test_wsgi_errors_goes_to_the_log(caplog):
    with caplog.at_level(logging.ERROR):
        stream = build_environ(http_scope())["wsgi.errors"]
        stream.writelines(["it broke\n", "\n"])
        stream.flush()
    assert caplog.messages == ["it broke"]
