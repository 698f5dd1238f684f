"""Requests of many connections that wait for their turn in one worker, without sockets."""

import asyncio
import time

import pytest

from optimizely_api.runtime.bridge import CAME_AT, AsgiBridge
from optimizely_api.runtime.options import RuntimeOptions
from optimizely_api.runtime.server.forwarded import TrustedProxies
from optimizely_api.runtime.server.gate import FEWEST_IN_FLIGHT, TICKS_OF_A_TURN, Gate
from optimizely_api.runtime.server.http1.head import HeadLimits
from optimizely_api.runtime.server.protocol import GatewayProtocol
from optimizely_api.serving.admission import FEWEST, FEWEST_WAITING
from optimizely_api.serving.line import BULK, PEOPLE

LIMIT_SECONDS = 0.5


def get(path, *lines):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: t", *lines, "\r\n"]).encode()


class Transport:
    """What a connection has written; `is_closing` as after the client's last byte."""

    def __init__(self):
        self.written = b""
        self.closing = False

    def write(self, data):
        self.written += b"" if self.closing else data

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name):
        return ("192.0.2.1", 5000) if name == "peername" else None

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    resume_reading = close = pause_reading


class Worker:
    """As much of a worker as connections need; a request is served until `held` is set."""

    def __init__(self, classify):
        self.loop, self.now, self.held = asyncio.get_running_loop(), time.monotonic(), asyncio.Event()
        self.served = []
        self.options = RuntimeOptions(overload_wait_seconds=LIMIT_SECONDS)
        self.head_limits, self.proxies = HeadLimits(), TrustedProxies(["*"], [], {})
        self.root_path, self.worker_connections, self.keepalive_seconds = "", 1000, 60
        self.alive, self.is_full, self.logs_requests = True, False, False
        self.connections = set()
        self.gate = Gate(self, classify)
        self.admission = self.gate.admission
        self.admission._clock = self.admission._busy_clock = lambda: self.now

    async def asgi(self, scope, _receive, send):
        self.served.append(scope["path"])
        await self.held.wait()
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    def request_begins(self):
        pass

    def connection_ended(self, connection):
        self.connections.discard(connection)

    def fill(self):
        """From now on requests are judged, and there is no room."""
        self.pass_time(0.1)
        for _ in range(FEWEST):
            self.admission.begin()

    def pass_a_turn(self):
        """Time enough to look whether the worker is half full, with no tick late."""
        for _ in range(TICKS_OF_A_TURN):
            self.gate._tick(0.0)

    def pass_time(self, seconds):
        """Wait for so long, with a late tick at the end."""
        self.now += seconds
        self.gate._tick(seconds)

    async def end(self):
        for connection in list(self.connections):
            connection.connection_lost(None)
        await turns_of_the_loop()

    def connect(self):
        connection = GatewayProtocol(self)
        connection.connection_made(Transport())
        return connection


def receive(connection, data):
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def end_of_input(connection):
    """What a transport does at the end of its input."""
    assert not connection.eof_received()
    connection.transport.closing = True
    connection.worker.loop.call_soon(connection.connection_lost, None)


def people_at_people(_method, path, authorization):
    """An account is the number of its token."""
    return PEOPLE if path == b"/people" else BULK, int(authorization or 0)


@pytest.fixture
async def worker():
    worker = Worker(people_at_people)
    yield worker
    await worker.end()


async def turns_of_the_loop():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_turn_of_a_client_that_has_just_gone_goes_to_the_next(worker):
    worker.fill()
    gone, waits = worker.connect(), worker.connect()
    receive(gone, get("/gone"))
    receive(waits, get("/waits"))
    end_of_input(gone)
    worker.admission.end()
    await turns_of_the_loop()
    assert worker.served == ["/waits"]
    assert worker.admission.under_way == FEWEST


async def test_a_pipelined_request_is_not_begun_for_a_client_that_has_gone(worker):
    connection = worker.connect()
    receive(connection, get("/first") + get("/second"))
    await turns_of_the_loop()
    worker.held.set()  # so that the first ends before the connection does, in the same turn of the loop
    end_of_input(connection)
    await turns_of_the_loop()
    assert worker.served == ["/first"]
    assert worker.admission.under_way == 0


async def test_a_request_that_is_lost_before_its_task_runs_is_counted_no_more(worker):
    connection = worker.connect()
    receive(connection, get("/"))
    connection.connection_lost(None)
    assert worker.admission.under_way == 1
    await turns_of_the_loop()
    assert worker.admission.under_way == 0


class Recording(AsgiBridge):
    """An application that keeps the environ of each request, and answers none."""

    def __init__(self):
        super().__init__(None, registry={})
        self.environs = []

    async def serve(self, environ, connection):
        self.environs.append(environ)
        await connection.send_whole(204, [], b"")


async def test_a_request_that_waited_says_since_when_and_the_next_on_its_connection_did_not(worker):
    worker.asgi = Recording()
    worker.fill()
    connection = worker.connect()
    before = time.monotonic()
    receive(connection, get("/waits"))
    after = time.monotonic()
    worker.admission.end()
    await turns_of_the_loop()
    receive(connection, get("/next"))
    await turns_of_the_loop()
    waited, begun_at_once = worker.asgi.environs
    assert before <= waited[CAME_AT] <= after
    assert CAME_AT not in begun_at_once


async def test_a_refusal_leads_to_no_other_in_the_same_call(worker):
    """Each connection has an important request behind an unimportant one, which another's may be refused for."""
    worker.fill()
    connections = [worker.connect() for _ in range(FEWEST_WAITING + 500)]
    for connection in connections:
        receive(connection, get("/bulk") + get("/people"))
    worker.pass_time(LIMIT_SECONDS)
    refused = sum(bool(each.transport.written) for each in connections)
    first = worker.connect()
    receive(first, get("/people"))
    assert sum(bool(each.transport.written) for each in connections) == refused + 1
    for _ in connections:
        await turns_of_the_loop()
    written = [each.transport.written for each in connections]
    assert {each.partition(b"\r\n")[0] for each in written} == {b"HTTP/1.1 503 Service Unavailable"}
    assert {each.count(b"HTTP/1.1 ") for each in written} == {1}


def begin(worker, account, times):
    """So many requests of an account, each on a connection of its own."""
    connections = [worker.connect() for _ in range(times)]
    for connection in connections:
        receive(connection, get("/", f"Authorization: {account}"))
    return connections


def is_429(connection):
    return connection.transport.written.startswith(b"HTTP/1.1 429 ")


@pytest.fixture
async def half_full(worker):
    """A worker of 30 connections with 12 requests of account 1, whose connections it returns, and 6 of account 2."""
    worker.worker_connections = 30
    greedy = begin(worker, 1, 12)
    begin(worker, 2, 6)
    return greedy


async def test_an_account_is_refused_until_it_has_few_requests_under_way_again(worker, half_full):
    worker.pass_a_turn()
    assert all(is_429(each) for each in begin(worker, 1, 5))
    assert not any(is_429(each) for each in begin(worker, 2, 2))
    for connection in half_full[:6]:
        connection.connection_lost(None)
    await turns_of_the_loop()
    more = begin(worker, 1, 3)  # to the six that it has
    assert [is_429(each) for each in more] == [False] * (FEWEST_IN_FLIGHT - 6) + [True]


async def test_clients_that_have_gone_give_their_account_no_more_than_others_have(worker, half_full):
    """Their requests end some turns of the loop later, and may not have been counted by then."""
    for connections in (30, 100):
        worker.worker_connections = connections
        worker.pass_a_turn()
    for connection in half_full:
        connection.connection_lost(None)
    worker.worker_connections = 30
    worker.pass_a_turn()
    await turns_of_the_loop()
    more = begin(worker, 1, FEWEST_IN_FLIGHT + 1)
    assert [is_429(each) for each in more] == [False] * FEWEST_IN_FLIGHT + [True]


async def test_a_client_that_reads_its_output_does_not_end_the_rest_of_its_connection(worker, half_full):
    worker.pass_a_turn()
    worker.admission.refuses_most = True
    connection = worker.connect()
    receive(connection, 2 * get("/", "Authorization: 1"))
    connection.pause_writing()
    connection.resume_writing()
    await turns_of_the_loop()
    assert connection.transport.written.count(b"HTTP/1.1 429 ") == 1
    worker.pass_a_turn()
    assert connection.transport.written.count(b"HTTP/1.1 429 ") == 2


async def test_requests_that_wait_in_the_line_do_not_count(worker, half_full):
    worker.pass_a_turn()
    worker.pass_time(0.1)  # now there is no room
    assert not any(is_429(each) for each in begin(worker, 3, 2 * FEWEST_IN_FLIGHT))


async def test_what_began_before_is_judged_without_the_prefix_of_its_proxy():
    worker = Worker(lambda _method, path, _authorization: (BULK, int(path == b"/people")))
    worker.worker_connections = 20
    request = get("/api/people", "X-Forwarded-Prefix: /api")
    for _ in range(12):
        receive(worker.connect(), request)
    worker.pass_a_turn()
    crowded = worker.connect()
    receive(crowded, request)
    assert is_429(crowded)
    await worker.end()


async def test_tokens_that_share_only_their_turn_are_not_refused_for_their_number(worker):
    worker.worker_connections = 30
    begin(worker, -1, 20)
    worker.pass_a_turn()
    assert not any(is_429(each) for each in begin(worker, -1, 5))
