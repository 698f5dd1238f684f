"""Services behind TLS: certificates are checked against the system's authorities, or those of SSL_CERT_FILE."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys

import pytest

from tests.support.ports import free_port
from tests.upstream.scripted_service import OK, scripted

# aiohttp reads the authorities when it is imported: a process of its own for each setting of SSL_CERT_FILE.
FETCH = """
import asyncio, sys, time
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamError
from tests.upstream.scripted_service import CALL, client_of

async def fetch():
    async with client_of(sys.argv[1]) as client:
        for _ in range(2):
            print(await client.fetch(CALL, CallContext("id", time.monotonic() + 5)))

try:
    asyncio.run(fetch())
except UpstreamError as exc:
    print(type(exc).__name__, exc.message)
"""

LATE = """
import asyncio, contextlib, sys, time
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamTimeout
from tests.upstream.scripted_service import CALL, client_of

async def late():
    async with client_of(sys.argv[1], seconds=0.1) as client:
        with contextlib.suppress(UpstreamTimeout):
            await client.fetch(CALL, CallContext("id", time.monotonic() + 5))
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(late())
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    addition = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    subprocess.run(["openssl", "req", *options.split(), *addition, *files], check=True, capture_output=True)
    return folder


def tls_of(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    return context


async def fetched(certificate, authorities):
    async with scripted(tls=tls_of(certificate)) as service:
        service.script += [[OK], [OK]]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FETCH, service.url),
            env={**os.environ, "SSL_CERT_FILE": str(authorities)},
            stdout=subprocess.PIPE,
        )
        output, _ = await process.communicate()
        return output.decode().splitlines(), service.connections


async def test_a_trusted_certificate_makes_one_connection_for_all_calls(certificate):
    assert await fetched(certificate, certificate / "certificate.pem") == (["{'status': 'ok'}"] * 2, 1)


async def test_503_when_the_certificate_is_not_trusted(certificate):
    lines, _ = await fetched(certificate, "/dev/null")
    assert lines == ["NeverSent The results service cannot be reached."]


async def test_a_call_that_is_late_ends_its_connection_though_the_service_is_silent(certificate):
    """It does not wait for the service to end TLS: such connections would be beyond `upstream_connections`."""

    def until_closed(listening):
        with listening.accept()[0] as peer:
            peer.settimeout(5)
            tls = tls_of(certificate).wrap_socket(peer, server_side=True)
            with socket.socket(fileno=tls.detach()) as silent:  # reads what comes, and sends nothing more
                silent.settimeout(5)
                while silent.recv(4096):
                    pass

    with socket.create_server(("127.0.0.1", free_port())) as listening:
        listening.settimeout(10)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LATE, f"https://127.0.0.1:{listening.getsockname()[1]}"),
            env={**os.environ, "SSL_CERT_FILE": str(certificate / "certificate.pem")},
            stdin=subprocess.PIPE,
        )
        try:
            await asyncio.to_thread(until_closed, listening)
        finally:
            await process.communicate(b"")
    assert process.returncode == 0
