"""One request through the bridge: its body, its response, and `close()` in every case."""

import asyncio
import json
import logging

import pytest

from optimizely_api.runtime import AsgiBridge, RuntimeOptions, synchronize
from optimizely_api.runtime.bridge import OPTIONS_KEY
from tests.runtime.asgi import Exchange, call, http_scope


def responding(app_iter, status="200 OK", headers=()):
    def application(environ, start_response):
        start_response(status, list(headers))
        return app_iter

    return application


class ClosingIterator:
    """An app_iter that counts the calls of its `close()`."""

    def __init__(self, chunks):
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self._chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self):
        self.closed += 1


def limited(application, **options):
    return AsgiBridge(application, registry={OPTIONS_KEY: RuntimeOptions(**options)})


# The response


async def test_a_list_is_sent_with_its_length():
    exchange = await call(responding([b"he", b"llo"], headers=[("Content-Type", "text/plain")]))
    assert (exchange.status, exchange.body) == (200, b"hello")
    assert exchange.headers == {b"content-type": b"text/plain", b"content-length": b"5"}
    assert [message.get("more_body") for message in exchange.sent] == [None, True, False]


async def test_an_empty_list_is_an_empty_body():
    exchange = await call(responding([]))
    assert (exchange.headers[b"content-length"], exchange.body) == (b"0", b"")
    assert exchange.sent[-1]["more_body"] is False


async def test_an_iterator_is_streamed_chunk_by_chunk_and_waits_until_each_is_sent():
    made = []

    def chunks():
        for number in range(5):
            made.append(number)
            yield b"%d" % number

    exchange = Exchange(AsgiBridge(responding(chunks()), registry={}), http_scope())
    taken = asyncio.Semaphore(0)
    reached = asyncio.Queue()

    async def slow_send(message):
        exchange.sent.append(message)
        if message["type"] == "http.response.body" and message["body"]:
            reached.put_nowait(list(made))
            await taken.acquire()

    exchange.sending = slow_send
    task = asyncio.create_task(exchange.run())
    for number in range(5):
        assert await reached.get() == list(range(number + 1))
        taken.release()
    await task
    assert exchange.body == b"01234"
    assert b"content-length" not in exchange.headers


async def test_an_iterator_may_wait_for_coroutines():
    @synchronize
    async def fetch(number):
        await asyncio.sleep(0)
        return b"<%d>" % number

    exchange = await call(responding(fetch(number) for number in range(3)))
    assert exchange.body == b"<0><1><2>"


async def test_write_sends_at_once_and_before_the_iterable():
    order = []

    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"first ")
        order.append("written")
        return [b"second"]

    exchange = Exchange(AsgiBridge(application, registry={}), http_scope())

    async def send(message):
        exchange.sent.append(message)
        order.append(message.get("body", "start"))

    exchange.sending = send
    await exchange.run()
    assert order == ["start", b"first ", "written", b"second"]


async def test_hop_by_hop_headers_of_the_application_are_left_to_the_server():
    exchange = await call(
        responding([b"x"], headers=[("Connection", "close"), ("Transfer-Encoding", "chunked")])
    )
    assert exchange.headers == {b"content-length": b"1"}


@pytest.mark.parametrize("app_iter", [[b"hello"], iter([b"he", b"llo"])], ids=["list", "iterator"])
async def test_head_keeps_the_length_and_drops_the_body(app_iter):
    exchange = await call(responding(app_iter, headers=[("Content-Length", "5")]), http_scope(method="HEAD"))
    assert (exchange.headers[b"content-length"], exchange.body) == (b"5", b"")
    assert exchange.sent[-1]["more_body"] is False


async def test_head_invents_no_length():
    exchange = await call(responding([]), http_scope(method="HEAD"))
    assert b"content-length" not in exchange.headers


@pytest.mark.parametrize(("status", "length"), [("204 No Content", None), ("304 Not Modified", b"5")])
async def test_204_and_304_have_no_body(status, length):
    exchange = await call(responding([b"hello"], status, [("Content-Length", "5")]))
    assert (exchange.headers.get(b"content-length"), exchange.body) == (length, b"")


# start_response


async def test_start_response_may_be_replaced_with_exc_info_until_the_first_byte():
    def application(environ, start_response):
        start_response("200 OK", [("X-First", "1")])
        try:
            raise ValueError("late")
        except ValueError as exc:
            start_response("500 Oops", [("X-Second", "2")], (type(exc), exc, exc.__traceback__))
        return [b"sorry"]

    exchange = await call(application)
    assert (exchange.status, exchange.body) == (500, b"sorry")
    assert b"x-first" not in exchange.headers


async def test_start_response_with_exc_info_raises_it_after_the_first_byte():
    def application(environ, start_response):
        start_response("200 OK", [])(b"half")
        try:
            raise ValueError("too late")
        except ValueError as exc:
            start_response("500 Oops", [], (type(exc), exc, exc.__traceback__))
        return []

    with pytest.raises(ValueError, match="too late"):
        await call(application)


async def test_500_when_start_response_is_called_twice(caplog):
    def application(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return [b"never"]

    assert (await call(application)).status == 500
    assert "a second time without exc_info" in caplog.text


async def test_500_when_start_response_is_never_called(caplog):
    assert (await call(lambda environ, start_response: [b"body"])).status == 500
    assert "did not call start_response" in caplog.text


# Failures


async def test_500_in_the_one_shape_and_a_logged_traceback_when_the_application_fails(caplog):
    def application(environ, start_response):
        raise RuntimeError("secret detail")

    with caplog.at_level(logging.INFO):
        exchange = await call(application, http_scope("/v2/thíngs"))
    error = json.loads(exchange.body)
    assert (exchange.status, exchange.headers[b"x-request-id"].decode()) == (500, error["uuid"])
    assert sorted(error) == ["code", "message", "uuid"]
    assert "secret" not in exchange.body.decode()
    assert f"failed, answered with 500, uuid {error['uuid']}" in caplog.text
    assert "secret detail" in caplog.text
    (line,) = [record.fields for record in caplog.records if record.name == "optimizely_api.access"]
    expected = {"method": "GET", "path": "/v2/thíngs", "status": 500, "request_id": error["uuid"]}
    assert expected.items() <= line.items()
    assert (line["client"], line["upstreams_ms"]) == ("192.0.2.7", {})
    assert line["duration_ms"] >= 0


async def test_a_failure_after_the_first_byte_is_raised_to_the_server_which_closes_the_connection():
    app_iter = ClosingIterator([b"half", RuntimeError("in the middle")])
    exchange = Exchange(AsgiBridge(responding(app_iter), registry={}), http_scope())
    with pytest.raises(RuntimeError, match="in the middle"):
        await exchange.run()
    assert all(message.get("more_body", True) for message in exchange.sent)
    assert app_iter.closed == 1


async def test_a_failure_of_close_after_the_response_is_logged(caplog):
    class Failing(ClosingIterator):
        def close(self):
            raise RuntimeError("close failed")

    assert (await call(responding(Failing([b"all"])))).body == b"all"
    assert "failed after its answer" in caplog.text


@pytest.mark.parametrize(
    "chunks", [[b"a", b"b"], [], [RuntimeError("at the first chunk")]], ids=["to the end", "empty", "failing"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_close_is_called_once(chunks, method):
    app_iter = ClosingIterator(chunks)
    await call(responding(app_iter), http_scope(method=method))
    assert app_iter.closed == 1


async def test_close_is_called_when_the_request_is_cancelled():
    app_iter = ClosingIterator([b"a", b"b"])
    exchange = Exchange(AsgiBridge(responding(app_iter), registry={}), http_scope(cancels=True))
    sending = asyncio.Event()

    async def never_taken(message):
        sending.set()
        await asyncio.Event().wait()

    exchange.sending = never_taken
    task = asyncio.create_task(exchange.run())
    await sending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app_iter.closed == 1


async def test_a_server_that_cannot_send_ends_the_request_quietly(caplog):
    app_iter = ClosingIterator([b"a", b"b"])
    exchange = Exchange(AsgiBridge(responding(app_iter), registry={}), http_scope(cancels=True))

    async def gone(message):
        raise ConnectionResetError("gone")

    exchange.sending = gone
    await exchange.run()
    assert (app_iter.closed, caplog.text) == (1, "")


# The body of the request


def echo(environ, start_response):
    start_response("200 OK", [])
    over = environ.get("optimizely_api.body_over_limit")
    framing = (environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING"))
    return [repr((environ["wsgi.input"].read(), over, framing)).encode()]


def sized(length):
    return http_scope(method="POST", headers=[(b"content-length", b"%d" % length)])


CHUNKED = http_scope(method="POST", headers=[(b"transfer-encoding", b"chunked")])


@pytest.mark.parametrize(
    ("scope", "body", "expected"),
    [
        pytest.param(http_scope(), [b""], (b"", None, (None, None)), id="none"),
        pytest.param(sized(10), [b"01234", b"56789"], (b"0123456789", None, ("10", None)), id="at the limit"),
        pytest.param(sized(11), [b"0" * 11], (b"", 10, ("0", None)), id="declared over the limit"),
        pytest.param(CHUNKED, [b"01", b"2"], (b"012", None, ("3", None)), id="chunked"),
        pytest.param(CHUNKED, [b"0" * 6, b"1" * 5], (b"", 10, ("0", None)), id="chunked over the limit"),
    ],
)
async def test_the_body_is_bounded(scope, body, expected):
    exchange = await call(limited(echo, max_request_body_bytes=10), scope, body)
    assert exchange.body.decode() == repr(expected)
    assert exchange.headers.get(b"connection") == (b"close" if expected[1] else None)


async def test_a_body_declared_over_the_limit_gets_its_response_before_it_is_read():
    exchange = Exchange(limited(echo, max_request_body_bytes=10), sized(2**40), body=[])
    task = asyncio.create_task(exchange.run())
    while not exchange.sent or exchange.sent[-1].get("more_body", True):
        await asyncio.sleep(0)
    exchange.disconnect()
    await task
    assert b"10" in exchange.body


async def test_the_rest_of_a_body_over_the_limit_is_read_so_that_the_client_gets_the_response():
    exchange = await call(limited(echo, max_request_body_bytes=10), sized(50), [b"x" * 10] * 5)
    assert exchange.inbox.empty()


async def test_408_when_the_body_does_not_arrive_in_time():
    exchange = Exchange(limited(echo, body_timeout_seconds=0.05), sized(10), body=[])
    exchange.inbox.put_nowait({"type": "http.request", "body": b"half", "more_body": True})
    await asyncio.wait_for(exchange.run(), 5.0)
    assert (exchange.status, exchange.headers[b"connection"]) == (408, b"close")
    assert json.loads(exchange.body)["code"] == "request_timeout"
    assert exchange.headers[b"x-request-id"].decode() == json.loads(exchange.body)["uuid"]


async def test_the_application_is_not_called_when_the_client_leaves_in_the_middle_of_its_body(caplog):
    called = []
    exchange = Exchange(
        limited(lambda *args: called.append(args), max_request_body_bytes=10), sized(10), body=[]
    )
    exchange.disconnect()
    with caplog.at_level(logging.INFO, "optimizely_api.access"):
        await exchange.run()
    assert (called, exchange.sent, caplog.messages) == ([], [], [])


# Other scopes


async def test_a_websocket_is_refused():
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    await AsgiBridge(echo, registry={})({"type": "websocket"}, receive, send)
    assert sent == ["websocket.close"]


async def test_an_unknown_scope_is_an_error():
    with pytest.raises(ValueError, match="'gopher'"):
        await AsgiBridge(echo, registry={})({"type": "gopher"}, None, None)


def test_an_application_without_a_registry_logs_a_warning(caplog):
    AsgiBridge(echo)
    assert "has no registry" in caplog.text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_request_body_bytes", -1),
        ("stall_warning_seconds", -0.1),
        ("body_timeout_seconds", 0),
        ("header_timeout_seconds", 0),
        ("write_timeout_seconds", -5),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name_and_value(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        RuntimeOptions(**{option: value})
