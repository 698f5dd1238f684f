"""`route` of the access log: every refused or failed request to an operation's address names the operation."""

import json
import logging
import socket
from contextlib import ExitStack

import pytest

from optimizely_api.gateway import finishing as answers
from optimizely_api.serving.log import GATEWAY_ACCESS
from tests.gateway.test_declared_errors import (
    ASK_NO_SERVICE,
    CONTRACT,
    DECLARED,
    ask,
    forgetful_gateway,
    own,
    path,
    provoke,
)
from tests.support.asserting import AUTHORIZED
from tests.support.serving import SOON_SECONDS, serve

OPERATIONS = list(CONTRACT.operations.values())
# A file that is made while it is sent has its entity tag from its view.
MADE_WHILE_SENT = {"get_campaign_results_csv", "get_experiment_results_csv"}
READING = [
    one
    for one in OPERATIONS
    if one.method == "GET" and one.operation_id not in ASK_NO_SERVICE | MADE_WHILE_SENT
]
OTHERS = {operation.path: f"other methods of {operation.path}" for operation in OPERATIONS}
# What the server refuses by itself: the rest of a head after its request line.
REFUSED_HEADS = {
    400: f"Host: a\r\nContent-Length: {'9' * 20}\r\n\r\n",
    408: "Host: a\r\n",
    431: f"Host: a\r\nX: {'x' * 70_000}\r\n\r\n",
    501: "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
}


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger=GATEWAY_ACCESS)
    return lambda: [
        (record.fields["status"], record.fields["route"])
        for record in caplog.records
        if record.name == GATEWAY_ACCESS
    ]


@pytest.fixture(scope="module")
def app(running_services, tmp_path_factory):
    with forgetful_gateway(running_services, tmp_path_factory.mktemp("recommendations")) as opened:
        yield opened


@pytest.mark.parametrize(("operation_id", "status"), DECLARED, ids=[f"{n}-{code}" for n, code in DECLARED])
def test_a_declared_error_is_logged_with_its_operation(
    app, services, lines, monkeypatch, operation_id, status
):
    provoke(app, CONTRACT.operations[operation_id], status, services, monkeypatch)
    assert lines() == [(status, operation_id)]


@pytest.mark.parametrize("operation", OPERATIONS, ids=list(CONTRACT.operations))
def test_413_405_and_204_of_options_are_logged_with_what_answers_there(app, services, lines, operation):
    address = path(operation, own(operation))
    app.request(
        address, method=operation.method, body=b"x" * (1024 * 1024 + 1), headers=AUTHORIZED, status=413
    )
    app.request(address, method="PUT", status=405)
    app.request(address, method="OPTIONS", status=204)
    other = OTHERS[operation.path]
    assert lines() == [(413, operation.operation_id), (405, other), (204, other)]


@pytest.mark.parametrize("operation", READING, ids=[operation.operation_id for operation in READING])
def test_a_500_of_the_server_itself_is_logged_once_with_its_operation_and_uuid(
    app, services, lines, caplog, monkeypatch, operation
):
    monkeypatch.setattr(answers, "entity_tag", lambda *_: 1 / 0)  # outside the exception views
    body = ask(app, operation, own(operation), **AUTHORIZED).json
    assert lines() == [(500, operation.operation_id)]
    assert body["uuid"] in [
        record.fields["request_id"] for record in caplog.records if record.name == GATEWAY_ACCESS
    ]


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """(status, method, path) -> route, as the server that refused them logged it."""
    log = tmp_path_factory.mktemp("refused") / "gunicorn.log"
    nowhere = {f"{name}_url": "http://127.0.0.1:9" for name in ("projects", "experiments", "results")}
    settings = {**nowhere, "header_timeout_seconds": "5"}
    with serve("main", settings, log, "--workers", "1") as served, ExitStack() as opened:
        asked = [
            f"{operation.method} {path(operation, own(operation))} HTTP/1.1\r\n{rest}"
            for operation in OPERATIONS
            for rest in REFUSED_HEADS.values()
        ]
        port = int(served.url.rsplit(":", 1)[1])
        address = "127.0.0.1", port
        # The first response waits for the start of the worker.
        callers = [opened.enter_context(socket.create_connection(address, SOON_SECONDS)) for _ in asked]
        for caller, request in zip(callers, asked, strict=True):
            caller.sendall(request.encode())
        assert all(caller.recv(100).startswith(b"HTTP/1.1 ") for caller in callers)
    logged = [json.loads(line) for line in log.read_text().splitlines() if f'"{GATEWAY_ACCESS}"' in line]
    return {(line["status"], line["method"], line["path"]): line["route"] for line in logged}


@pytest.mark.parametrize("status", REFUSED_HEADS)
def test_a_request_that_the_server_refuses_is_logged_with_its_operation(refused, status):
    for operation in OPERATIONS:
        address = path(operation, own(operation)).partition("?")[0]
        assert refused[status, operation.method, address] == operation.operation_id
