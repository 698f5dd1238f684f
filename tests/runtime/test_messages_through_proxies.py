"""Generated messages, straight to the gateway and through HAProxy and nginx: nothing is answered to another caller."""

import collections
import json
import os
import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import WHOLE
from tests.runtime.generated_messages import messages
from tests.runtime.servers import gunicorn
from tests.system.balancers import balancer

SEED = int(os.environ.get("MESSAGES_SEED") or random.randrange(2**32))
COUNT = 2000 if WHOLE else 200
SILENCE_SECONDS = (
    3.0  # of an incomplete message, whose end the server waits for: longer than the gateway waits
)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
SERVED = re.compile(rb"(?i)\r\nserved: ([^\r]*)")  # the query of the request that a response is to


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with gunicorn(tmp_path_factory.mktemp("messages"), header_timeout_seconds=1.0) as server:
        yield server


def exchange(port, sent):
    """Send bytes and read until the other side closes, or is silent for long."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS) as client:
        try:
            client.sendall(sent)
            while chunk := client.recv(65536):
                received += chunk
        except OSError:
            pass
    return received


def served(server):
    answer = server.exchange(b"GET /state HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return json.loads(answer.partition(b"\r\n\r\n")[2])["answered"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["straight", "haproxy", "nginx"])
def test_each_caller_gets_the_answers_to_its_own_requests(server, tmp_path, way):
    print(f"MESSAGES_SEED={SEED}, {COUNT} messages, {way}")
    generated = messages(SEED, COUNT)
    before = served(server)
    if way == "straight":
        received = ask_all(server.port, generated)
    else:
        with balancer(way, tmp_path, [server.port]) as port:
            received = ask_all(port, generated)
    counted = served(server) - before - 1  # without the request that asks
    answers = [[query.decode() for query in SERVED.findall(bytes_)] for bytes_ in received]
    report(way, generated, received, answers, counted)
    for message, queries in zip(generated, answers, strict=True):
        assert all(f"n={message.number}" == query.partition("&")[0] for query in queries), message
    assert counted == sum(map(len, answers)), "a request was served whose answer nobody got"


def ask_all(port, generated):
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda message: exchange(port, message.sent), generated))


def report(way, generated, received, answers, counted):
    outcomes = collections.Counter(
        " ".join(status.decode() for status in STATUS.findall(bytes_)) or "closed" for bytes_ in received
    )
    smuggled = sum("smuggled" in query for queries in answers for query in queries)
    print(
        f"{way}: {counted} requests served, {smuggled} of them sent as the body of another; statuses: {dict(outcomes)}"
    )
    if folder := os.environ.get("MESSAGES_FOLDER"):
        with open(f"{folder}/{way}.jsonl", "w") as file:
            for message, bytes_ in zip(generated, received, strict=True):
                statuses = [int(status) for status in STATUS.findall(bytes_)]
                file.write(json.dumps([message.number, message.kinds, statuses]) + "\n")
