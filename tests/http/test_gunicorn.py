"""What only a real gunicorn shows: broken requests, errors below the application, answers in one piece."""

import json
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.running import RunningService, run_service, wait_until

EVENT = '{"type": "pageview", "url": "https://example.com/"}'
BUSY_S = 0.3
KEY = "X-API-Key: test_api_key\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """A service as `make run` starts it."""
    with run_service(WEB_CONCURRENCY="1") as running:
        yield running


def send(service: RunningService, request: str) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are and read until the server closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"POST /api/v1/track/event HTTP/1.1\r\nHost: x\r\n{KEY}Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        (f"GET /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (f"GET / HTTP/1.1\r\nHost: x\r\nX: {'x' * 9000}\r\n\r\n", 431),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_broken_requests_get_the_one_error_shape_and_an_end(
    service: RunningService, request_text: str, status: int
) -> None:
    found, headers, body = send(service, request_text)
    assert found in (status, 400)
    assert headers["Content-Type"] == "application/json" and headers["Connection"] == "close"
    answer = json.loads(body)
    assert answer["success"] is False and answer["error"] and answer["message"]


@pytest.mark.parametrize("path", ["/health/live", "/docs", "/js/pulse.js", "/api/v1/openapi.json"])
def test_answers_arrive_whole(service: RunningService, path: str) -> None:
    status, headers, body = send(service, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status == 200 and len(body) == int(headers["Content-Length"])


def test_answers_without_a_body_end_too(service: RunningService) -> None:
    status, headers, body = send(
        service, "HEAD /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert status == 200 and int(headers["Content-Length"]) > 1000 and body == b""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what TCP delivers")
@pytest.mark.parametrize(
    ("route", "request_text"),
    [
        ("/health/live", "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (
            "/api/v1/track/event",
            f"POST /api/v1/track/event HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: {len(EVENT)}\r\n\r\n{EVENT}",
        ),
    ],
)
def test_the_wait_for_a_busy_worker_counts(service: RunningService, route: str, request_text: str) -> None:
    """As the client sees it: what lies in the socket meanwhile waits as well."""
    worker = service.processes("web-worker")[0]
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(request_text.encode())
        assert b" 200 OK" in connection.recv(65536)
        worker.suspend()
        try:
            connection.sendall(request_text.encode())
            time.sleep(BUSY_S)
        finally:
            worker.resume()
        assert b" 200 OK" in connection.recv(65536)
    with urllib.request.urlopen(f"{service.url}/api/v1/performance") as answer:
        routes = json.load(answer)["data"]["latency"]["routes"]
    (found,) = [row for row in routes if row["route"] == route]
    assert float(found["p99"].removesuffix("ms")) >= BUSY_S * 1000


def test_a_worker_that_stops_closes_idle_connections_and_answers_the_others(service: RunningService) -> None:
    logged = len(service.log.read_text())
    worker = service.processes("web-worker")[0]
    connections = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(4)]
    kept, silent, begun, refused = connections
    with kept, silent, begun, refused:
        for connection in (kept, begun):  # an answer shows that the worker has taken the connection
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 OK" in connection.recv(65536)
        head = f"POST /api/v1/track/event HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: {len(EVENT)}\r\n\r\n"
        begun.sendall(head.encode() + EVENT[:20].encode())
        refused.sendall(head.replace("test_api_key", "unknown").encode())
        assert b" 401 " in refused.recv(65536)
        refused.sendall(EVENT[:20].encode())  # what an answered request still sends is no request that has begun
        worker.terminate()
        assert kept.recv(65536) == silent.recv(65536) == refused.recv(65536) == b""
        begun.sendall(EVENT[20:].encode())
        answer = begun.recv(65536)
        assert b" 200 OK" in answer and b"Connection: close" in answer
    wait_until(lambda: worker.pid not in [found.pid for found in service.processes("web-worker")], 15)
    assert "ERROR" not in service.log.read_text()[logged:]
    service.await_ready()
