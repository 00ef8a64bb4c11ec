"""A connection's requests: tracking is answered on the way, the rest and what has to be refused is gunicorn's."""

from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeader

from pulse.errors import Invalid
from pulse.web.gunicorn_worker import Connection
from pulse.web.http import UNREAD, read_body
from pulse.web.shortcut import Shortcut
from pulse.web.tracking import REFUSAL, TrackingFirst

pytest.importorskip("gunicorn_h1c")

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo(TrackingFirst):
    """Answers with the body it was sent; refuses `bad` ones, and a key that it can't look up unread."""

    def answer(self, route: str, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes] | None:
        """Answer without storing."""
        if "HTTP_X_API_KEY" in environ:
            return "503 Service Unavailable", {}, b"away"
        try:
            body = read_body(environ)
            if body == b"bad":
                raise Invalid("It is bad.")
        except Exception as error:
            environ[REFUSAL] = error
            return None
        return "200 OK", {}, body


class Worker(SimpleNamespace):
    """What a connection knows of its worker, which is to end after three requests."""

    def find_shortcut(self) -> Shortcut:
        """Return the short way."""
        return self.shortcut

    def count_request(self) -> None:
        """Count one."""
        self.alive = (requests := self.requests - 1) > 0
        self.requests = requests

    def hold(self, count: int) -> None:
        """Count what waits."""
        self.held += count


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """The worker's end of a connection, and the client's."""
    cfg = Config()
    for name, value in {"keepalive": 5, "forwarded_allow_ips": ""}.items():
        cfg.set(name, value)
    tracking = Echo(SimpleNamespace(), lambda *_: (), "/api/v1")  # type: ignore[arg-type]
    worker = Worker(connections={}, alive=True, requests=3, held=0, shortcut=None)
    here, there = socket.socketpair()
    there.settimeout(5)
    with here, there, gevent.Timeout(20):
        connection = Connection(worker, cfg, here, ("203.0.113.7", 4711))  # type: ignore[arg-type]
        worker.shortcut = Shortcut(cfg, tracking)
        yield connection, there
        connection.let_go()


def post(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /api/v1/track/event HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (size, body)


def read_answer(client: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(1) or pytest.fail("the connection ended")
    (length,) = [line[16:] for line in answer.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    end = len(answer) + int(length)
    while len(answer) < end:
        answer += client.recv(end - len(answer)) or pytest.fail("the connection ended")
    return answer


def test_only_what_is_not_tracking_reaches_gunicorn(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"{1}") + GET + post(b"{2}"))
    request = next(connection)
    assert (request.method, request.path) == ("GET", "/health/live")
    assert read_answer(client).endswith(b"{1}")
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(StopIteration):
        next(connection)
    assert read_answer(client).endswith(b"{2}")


@pytest.mark.parametrize("size", [10, 100_000])
def test_bodies_may_come_in_pieces(ends: tuple[Connection, socket.socket], size: int) -> None:
    connection, client = ends
    body = bytes(65 + place % 26 for place in range(size))
    reader = gevent.spawn(next, connection)
    for piece in (post(b"", size) + body[:3], body[3:5], body[5:] + GET):
        client.sendall(piece)
        gevent.sleep(0.001)  # the others have their turn
    assert read_answer(client).endswith(body)
    assert reader.get().path == "/health/live"


def test_a_head_in_pieces_is_gunicorns(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    reader = gevent.spawn(next, connection)
    for piece in (post(b"{}")[:20], post(b"{}")[20:]):
        client.sendall(piece)
        gevent.sleep(0.001)
    request = reader.get()
    assert request.path == "/api/v1/track/event" and request.body.read() == b"{}"


def test_what_is_refused_goes_to_gunicorn_with_the_reason(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"bad") + GET)
    request = next(connection)
    assert (request.method, request.path, request.version) == ("POST", "/api/v1/track/event", (1, 1))
    assert isinstance(request.body.found[REFUSAL], Invalid) and request.body.read() == b""
    assert next(connection).path == "/health/live"


@pytest.mark.parametrize("arrived", [0, 4, 12_000, 20_000])
def test_an_answer_that_did_not_wait_for_the_body_is_not_followed_by_it(
    ends: tuple[Connection, socket.socket], arrived: int
) -> None:
    connection, client = ends
    body = post(b"{}") * 200 + bytes(20_000)
    request = post(body).replace(b"Host", b"X-API-Key: k\r\nHost", 1)
    begin = len(request) - len(body) + arrived
    reader = gevent.spawn(next, connection)
    client.sendall(request[:begin])
    assert read_answer(client).endswith(b"away")
    client.sendall(request[begin:] + post(b"{next}") + GET)
    assert read_answer(client).endswith(b"{next}")
    assert reader.get().path == "/health/live"


def test_a_body_that_never_ends_holds_nobody(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"half", 8).replace(b"Host", b"X-API-Key: k\r\nHost"))
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(StopIteration):
        next(connection)
    assert read_answer(client).endswith(b"away")


def test_a_body_that_is_cut_short_ends_the_connection(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"half", 8))
    client.shutdown(socket.SHUT_WR)
    assert next(connection).body.found[UNREAD] is True
    with pytest.raises(StopIteration):
        next(connection)


def test_faults_are_gunicorns_to_name(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"{}").replace(b"Host", b"Content-Length: 3\r\nHost"))
    with pytest.raises(InvalidHeader):
        next(connection)


def test_the_last_request_of_a_worker_says_so(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    client.sendall(post(b"{}") * 4)
    with pytest.raises(StopIteration):
        next(connection)
    answers = [read_answer(client) for _ in range(3)]
    assert [b"Connection: close" in answer for answer in answers] == [False, False, True]


def test_it_waits_as_long_as_connections_are_kept(ends: tuple[Connection, socket.socket]) -> None:
    connection, client = ends
    reader = gevent.spawn(lambda: list(connection))
    for since in (0.0, monotonic() + 60):  # it has not been waiting for that long; now it has
        client.sendall(post(b"{}"))
        assert read_answer(client)
        while not connection._is_waiting:
            gevent.sleep(0)
        connection.close_if_waiting(since)
    assert reader.get() == []
