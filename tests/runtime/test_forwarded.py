"""The headers of trusted proxies, and those of other peers, which are ignored."""

import ipaddress
import socket
from contextlib import contextmanager

import pytest

from optimizely_api.runtime.server.forwarded import TrustedProxies, peer_address
from optimizely_api.runtime.server.http1.head import Refusal
from tests.runtime.servers import gunicorn, read_to_end
from tests.runtime.test_worker import json_of
from tests.support.ports import free_port

PEER = ("10.0.0.1", 4000)


def proxies(*allowed):
    networks = [ipaddress.ip_network(each) for each in allowed if each != "*"]
    return TrustedProxies(allowed, networks, {"X-FORWARDED-PROTO": "https"})


@pytest.mark.parametrize(
    ("name", "value", "client"),
    [
        ("x-forwarded-for", "203.0.113.7", "203.0.113.7"),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7:4711", "203.0.113.7"),
        ("x-forwarded-for", "[2001:db8::7]:4711", "2001:db8::7"),
        ("x-forwarded-for", "2001:db8::7", "2001:db8::7"),
        ("x-forwarded-for", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
        ("x-forwarded-for", "::ffff:203.0.113.7, ::ffff:10.1.2.3", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7, nonsense, 10.0.0.8", "10.0.0.8"),
        ("x-forwarded-for", "", "10.0.0.1"),
        ("forwarded", 'for="[2001:db8::7]:80";proto=https', "2001:db8::7"),
        ("forwarded", "for=6.6.6.6, For=203.0.113.7;by=10.0.0.1", "203.0.113.7"),
        ("forwarded", "for=_hidden", "10.0.0.1"),
        ("forwarded", "proto=https", "10.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy(name, value, client):
    fields = [(name.encode(), value.encode())]
    assert proxies("10.0.0.0/8").client(fields, PEER)[0] == client


def test_with_every_peer_trusted_only_the_address_from_the_peer_counts():
    fields = [(b"x-forwarded-for", b"6.6.6.6, 203.0.113.7")]
    assert proxies("*").client(fields, PEER)[0] == "203.0.113.7"


@pytest.mark.parametrize("allowed", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "10.0.0.0/8"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_an_ipv4_address_is_trusted_however_it_is_written(allowed, peer):
    assert proxies(allowed).trusts(peer_address((peer, 5000)))


def test_all_addresses_of_ipv6_are_no_addresses_of_ipv4():
    assert proxies("::/0").trusts(("2001:db8::7", 5000))
    assert not proxies("::/0", "::ffff:10.0.0.0/104").trusts(("192.0.2.1", 5000))


def test_several_header_lines_are_one_chain():
    fields = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.7")]
    assert proxies("10.0.0.0/8").client(fields, PEER)[0] == "203.0.113.7"


@pytest.mark.parametrize(
    ("value", "prefix"), [("/api", "/api"), ("/api/", "/api"), ("/a/b, /c", "/a/b"), ("/", "")]
)
def test_the_prefix_is_a_path_without_a_slash_at_its_end(value, prefix):
    assert proxies("*").prefix([(b"x-forwarded-prefix", value.encode())], "/root") == prefix


@pytest.mark.parametrize("value", ["//evil.example", "api", "/a b", "/a?b", "/a\r\nb", "/a//b", "http://x/"])
def test_400_for_a_prefix_that_is_not_a_path(value):
    with pytest.raises(Refusal):
        proxies("*").prefix([(b"x-forwarded-prefix", value.encode())], "")


SAID = (
    b"GET /echo HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Prefix: /api\r\nConnection: close\r\n\r\n"
)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("127.0.0.0/8", ["203.0.113.7", "https", "/api", "/echo"]),
        ("*", ["203.0.113.7", "https", "/api", "/echo"]),
        ("192.0.2.1", ["127.0.0.1", "http", "", "/echo"]),
    ],
)
def test_only_peers_in_forwarded_allow_ips_are_trusted(tmp_path, allowed, expected):
    with gunicorn(tmp_path, environment={"FORWARDED_ALLOW_IPS": allowed}) as server:
        answer = json_of(server.exchange(SAID))
    assert [answer[key] for key in ("client", "scheme", "script_name", "path")] == expected


@contextmanager
def dual_stack(tmp_path, allowed):
    """A gunicorn on a Unix socket and on IPv6, which takes IPv4 too; yields a function that asks on a connection."""
    port, path = free_port(), str(tmp_path / "socket")

    def ask(host):
        client = socket.create_connection((host, port), timeout=15) if host else socket.socket(socket.AF_UNIX)
        with client:
            if not host:
                client.connect(path)
            client.sendall(SAID)
            answer = json_of(read_to_end(client))
        return [answer[key] for key in ("client", "scheme", "script_name")]

    with gunicorn(
        tmp_path, "--bind", f"[::]:{port}", "--bind", f"unix:{path}", "--forwarded-allow-ips", allowed
    ):
        yield ask


def test_an_ipv4_proxy_of_a_socket_on_ipv6_is_known_by_its_ipv4_address(tmp_path):
    with dual_stack(tmp_path, "127.0.0.1") as ask:
        assert ask("127.0.0.1") == ["203.0.113.7", "https", "/api"]
        assert ask("::1") == ["::1", "http", ""]
    with dual_stack(tmp_path, "192.0.2.1") as ask:
        assert ask("127.0.0.1") == ["127.0.0.1", "http", ""]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [("*", ["203.0.113.7", "https", "/api"]), ("127.0.0.1", ["", "http", ""])],
)
def test_a_unix_socket_is_trusted_where_everybody_is(tmp_path, allowed, expected):
    with dual_stack(tmp_path, allowed) as ask:
        assert ask("") == expected
