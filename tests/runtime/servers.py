"""Real server processes for the tests, each on a free port, stopped at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Server:
    """A running server process, its port and its log."""

    def __init__(self, process, port, log_path):
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log_path = log_path

    @property
    def log(self):
        return self._log_path.read_text()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=20.0):
        return self.process.wait(seconds)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=15.0)

    def exchange(self, request):
        """Send raw bytes on a new connection and read until the server closes it."""
        with self.connect() as client:
            client.sendall(request)
            return read_to_end(client)

    def wait_for_log(self, text, seconds=15.0):
        until(lambda: text in self.log, seconds)


def until(condition, seconds=10.0):
    """Wait until `condition()` is true, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def send(client):
    """Send a request on a persistent connection; returns the head of the response and the pid of the worker."""
    client.sendall(b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n")
    head, _, body = client.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    return head, json.loads(body)["pid"]


def read_to_end(client):
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


@contextmanager
def running(command, port, log_path, environment=None, *, ready=True):
    path = os.pathsep.join([str(ROOT), str(HERE)])
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        )
    server = Server(process, port, log_path)
    try:
        if ready:
            _wait_until_accepting(server)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT if "gunicorn" in command else signal.SIGTERM)
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_accepting(server):
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log
        try:
            if b" 200 " in server.exchange(b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server does not answer:\n{server.log}")


def gunicorn(tmp_path, *arguments, application="served_app:main()", environment=None, ready=True, **options):
    """A gunicorn of one worker; `options` are RuntimeOptions."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "optimizely_api.runtime.server.worker.GatewayWorker"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", *arguments]
    command += application if isinstance(application, list) else [application]
    environment = {"RUNTIME_OPTIONS": json.dumps(options), **(environment or {})}
    return running(command, port, tmp_path / "gunicorn.log", environment, ready=ready)


def uvicorn(tmp_path, *, environment=None, ready=True):
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "served_app:asgi", "--port", str(port)]
    return running(command, port, tmp_path / "uvicorn.log", environment, ready=ready)
