"""HAProxy and nginx in front of gateways, as an operator would set them up."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.runtime.servers import until
from tests.support.ports import free_port
from tests.support.serving import is_listening

HAPROXY = """\
global
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1
frontend callers
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
{servers}
"""
NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    upstream gateways {{
{servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@contextlib.contextmanager
def balancer(name: str, folder: Path, gateway_ports: Sequence[int]) -> Iterator[int]:
    """Run `haproxy` or `nginx`; yields the port where it listens."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    port, config = free_port(), folder / f"{name}.conf"
    if name == "haproxy":
        servers = [f"    server gateway{n} 127.0.0.1:{n}" for n in gateway_ports]
        command = [found, "-db", "-f", str(config)]
    else:
        servers = [f"        server 127.0.0.1:{n};" for n in gateway_ports]
        command = [found, "-p", str(folder), "-c", str(config)]
    text = HAPROXY if name == "haproxy" else NGINX
    config.write_text(text.format(port=port, folder=folder, servers="\n".join(servers)))
    with (folder / f"{name}.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until(lambda: process.poll() is not None or is_listening(port))
        assert process.poll() is None, (folder / f"{name}.log").read_text()
        yield port
    finally:
        process.kill()
        process.wait()
