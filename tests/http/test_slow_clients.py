"""Who sends or reads slowly is waited for in bounds, and gives way where connections run short."""

import contextlib
import logging
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from flask import Flask, Response, request
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import http as gunicorn_http
from gunicorn import util
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from pulse.web import arrival, gunicorn_answers, gunicorn_worker
from pulse.web.gunicorn_worker import Connection, Worker
from pulse.web.http import install_error_handlers, read_body, read_form

CONNECTIONS = 20
LARGE, SENDING = 1 << 20, 1 << 16  # bytes of an answer, and those of it that a connection holds
PATIENCE_S = 0.05
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BEGUN = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
CHUNKED = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
FORM = BEGUN.replace(b"/body", b"/form")
UNTAKEN = GET.replace(b"/", b"/large", 1)


def make_application() -> Flask:
    """Make one that reads bodies as ours does, and answers with what one socket does not hold."""
    app = Flask(__name__)
    install_error_handlers(app)
    app.add_url_rule("/", "small", view_func=lambda: "here")
    app.add_url_rule("/large", "large", view_func=lambda: Response(bytes(LARGE)))
    app.add_url_rule("/body", "body", view_func=lambda: read_body(request.environ), methods=["POST"])
    app.add_url_rule("/form", "form", view_func=lambda: read_form()["a"], methods=["POST"])
    return app


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker of this process, as gunicorn would make it."""
    cfg = Config()
    for name, value in {"worker_connections": CONNECTIONS, "keepalive": 75, "forwarded_allow_ips": ""}.items():
        cfg.set(name, value)
    found = Worker(0, os.getppid(), [], SimpleNamespace(), 60, cfg, Logger(cfg))
    found.wsgi = make_application()
    monkeypatch.setattr(gunicorn_http, "RequestParser", partial(Connection, found))
    monkeypatch.setattr(wsgi, "Response", gunicorn_answers.SingleWriteResponse)
    monkeypatch.setattr(util, "write_error", gunicorn_answers.write_error)
    return found


Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(worker: Worker) -> Iterator[Connect]:
    """Connects to the worker, which takes no more connections than it may have."""

    def handle(*client: Any) -> None:
        client[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING)
        worker.handle(server.socket, *client)

    server = StreamServer(("127.0.0.1", 0), handle=handle, spawn=Pool(CONNECTIONS))
    server.start()
    opened = []

    def open_one() -> socket.socket:
        opened.append(socket.create_connection(server.address, timeout=10))
        return opened[-1]

    with gevent.Timeout(30):
        yield open_one
        for connection in opened:
            connection.close()
        server.stop(timeout=5)


def read_all(client: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # what is sent to a closed connection is answered so
        while more := client.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize("begun", [b"G", GET[:-2], BEGUN, CHUNKED, FORM])
def test_a_byte_now_and_then_does_not_keep_a_connection(
    worker: Worker, connect: Connect, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", PATIENCE_S)
    client = connect()
    client.sendall(begun)
    answer = gevent.spawn(read_all, client)
    while not answer.ready():
        with contextlib.suppress(OSError):  # it has been closed
            client.sendall(b"1")
        gevent.sleep(PATIENCE_S / 10)
    assert answer.get().startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer.get() and b"REQUEST_TIMEOUT" in answer.get()
    client.close()
    while worker.connections:
        gevent.sleep(0.001)


def test_who_sends_steadily_is_waited_for(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", 1.0)
    monkeypatch.setattr(arrival, "SLOWEST_BYTES_PER_S", 10)
    client = connect()
    client.sendall(BEGUN[:-1])
    for _ in range(30):  # longer than the patience that it began with
        client.sendall(b"1")
        gevent.sleep(0.05)
    client.sendall(b"1" * 70)
    assert client.recv(65536).endswith(b"\r\n\r\n" + b"1" * 100)


def test_the_wait_for_the_next_request_is_not_that_for_the_rest_of_one(
    worker: Worker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "PATIENCE_S", PATIENCE_S)
    client = connect()
    for piece in (GET, BEGUN + b"1" * 99):
        client.sendall(piece)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        gevent.sleep(PATIENCE_S * 2)


def test_an_answer_that_is_not_taken_is_given_up_without_an_error(
    worker: Worker, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gunicorn_answers, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(gunicorn_answers, "SLOWEST_BYTES_PER_S", LARGE * 100)
    client = connect()
    client.sendall(UNTAKEN)
    client.recv(1)
    while worker.connections:
        gevent.sleep(0.001)
    assert not caplog.records


@pytest.mark.parametrize(
    ("sent", "first", "end"),
    [
        ([GET] * 19, 0, b"here"),
        ([BEGUN] * 19, 0, b'in time."}'),
        ([UNTAKEN] * 19, 0, bytes(9)),
        ([BEGUN] * 9 + [GET] * 10, 9, b"here"),
        ([UNTAKEN] * 10 + [BEGUN] * 9, 10, b'in time."}'),
    ],
)
def test_those_that_keep_the_worker_waiting_give_way(
    worker: Worker,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sent: list[bytes],
    first: int,
    end: bytes,
) -> None:
    for name, value in {"SLOW_S": 0.0, "LET_GO": 1}.items():
        monkeypatch.setattr(gunicorn_worker, name, value)
    slow = []
    for begun in sent:
        slow.append(connect())
        slow[-1].sendall(begun)
        while sum(found.keeps_waiting() is not None for found in worker.connections.values()) < len(slow):
            gevent.sleep(0.001)
    client = connect()
    client.sendall(GET)
    assert client.recv(65536).endswith(b"here")
    answer = read_all(slow[first])
    assert answer.endswith(end) and len(answer) < LARGE
    assert len(worker.connections) == CONNECTIONS - 1
    assert all(record.levelno < logging.ERROR for record in caplog.records)


def test_unfinished_requests_take_no_more_memory_than_they_may(
    worker: Worker, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"HELD_BYTES": 55_000, "LOOK_EVERY_S": 0.0}.items():
        monkeypatch.setattr(gunicorn_worker, name, value)
    large = BEGUN.replace(b"100", b"30000") + b"1" * 20_000
    clients = []
    for _ in range(4):
        clients.append(connect())
        clients[-1].sendall(large)
        while worker.connections and not all(
            found.unreader.held == len(large) and found.unreader.is_waiting for found in worker.connections.values()
        ):
            gevent.sleep(0.001)
        assert sum(found.unreader.held for found in worker.connections.values()) <= 55_000
    assert [read_all(client)[:13] for client in clients[:2]] == [b"HTTP/1.1 408 "] * 2, "those that began first"
    for client in clients[2:]:
        client.sendall(b"1" * (30_000 - 20_001))
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        client.sendall(GET)
        assert client.recv(65536).endswith(b"here")
    while worker._held:
        gevent.sleep(0.001)
    left = connect()
    left.sendall(large)
    while not worker._held:
        gevent.sleep(0.001)
    left.close()
    while worker._held:
        gevent.sleep(0.001)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_is_passed_over_costs_no_unfinished_request(
    worker: Worker, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"HELD_BYTES": 50_000, "LOOK_EVERY_S": 0.0}.items():
        monkeypatch.setattr(gunicorn_worker, name, value)
    begun, refused = connect(), connect()
    begun.sendall(BEGUN)
    refused.sendall(BEGUN.replace(b"/body", b"/").replace(b"100", b"1000000"))
    assert refused.recv(65536).startswith(b"HTTP/1.1 405 ")
    refused.sendall(b"1" * 500_000)
    while worker._held < 500_000:
        gevent.sleep(0.001)
    begun.sendall(b"1" * 99)
    assert begun.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert not caplog.records


def test_who_was_given_up_with_a_request_must_take_its_answer(worker: Worker, connect: Connect) -> None:
    client = connect()
    while not worker.connections:
        gevent.sleep(0.001)
    (connection,) = worker.connections.values()
    client.sendall(UNTAKEN)
    connection.give_up()  # before the worker has looked: what has arrived is answered
    while connection.keeps_waiting() is None:
        gevent.sleep(0.001)
    connection.give_up()
    assert 0 < len(read_all(client)) < LARGE


def test_a_connection_is_given_up_without_a_file(worker: Worker, connect: Connect) -> None:
    client = connect()
    while not worker.connections:
        gevent.sleep(0.001)
    (connection,) = worker.connections.values()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        connection.give_up()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert read_all(client) == b""


def test_the_end_of_a_chunked_answer_is_not_waited_for_without_limit(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gunicorn_answers, "PATIENCE_S", PATIENCE_S)
    here, there = socket.socketpair()
    with here, there, gevent.Timeout(10):
        with contextlib.suppress(BlockingIOError):
            while True:
                here.send(bytes(SENDING), 0, 0.0)
        answer = gunicorn_answers.SingleWriteResponse(SimpleNamespace(), here, worker.cfg)
        answer.headers_sent = answer.chunked = True
        with pytest.raises(BrokenPipeError):
            answer.close()
    assert not gunicorn_answers.sending_since
