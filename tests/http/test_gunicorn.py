"""What only a real gunicorn shows: broken requests, errors below the application, answers in one piece."""

import gzip
import json
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from tests.running import RunningService, run_service, wait_until

EVENT = '{"type": "pageview", "url": "https://example.com/"}'
BUSY_S = 0.3
KEY = "X-API-Key: test_api_key\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """A service as `make run` starts it."""
    with run_service(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--log-level info") as running:
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
    status, headers, body = send(service, "HEAD /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status == 200 and int(headers["Content-Length"]) > 1000 and body == b""


def track(body: str = EVENT, *lines: str, length: int | None = None, route: str = "event", version: str = "1.1") -> str:
    own = "".join(f"{line}\r\n" for line in lines)
    size = f"Content-Length: {len(body) if length is None else length}\r\n"
    return f"POST /api/v1/track/{route} HTTP/{version}\r\nHost: x\r\n{own}{size}\r\n{body}"


# A hundred megabytes in a hundred kilobytes.
BOMB = gzip.compress(bytes(100 << 20)).decode("latin-1")
USE_KEY = ("X-API-Key: test_api_key", "Content-Type: application/json")
TRACKING = {
    "an event": track(EVENT, *USE_KEY),
    "a beacon": track(EVENT, "Content-Type: text/plain;charset=UTF-8", route="event?api_key=test_api_key"),
    "a bearer": track(EVENT, "authorization: bearer test_api_key", "connection: keep-alive"),
    "gzip": track(gzip.compress(EVENT.encode()).decode("latin-1"), *USE_KEY, "Content-Encoding: gzip"),
    "a bot": track(EVENT, *USE_KEY, "User-Agent: Googlebot/2.1 (+http://www.google.com/bot.html)"),
    "a batch": track(f'{{"events": [{EVENT}, {EVENT}]}}', *USE_KEY, route="batch"),
    "a mixed batch": track(f'{{"events": [{EVENT}, {{"url": 1}}]}}', *USE_KEY, route="batch"),
    "a bad batch": track('{"events": [{"url": 1}]}', *USE_KEY, route="batch"),
    "a large batch": track(f'{{"events": [{", ".join([EVENT] * 101)}]}}', *USE_KEY, route="batch"),
    "a bad event": track('{"type": 5}', *USE_KEY),
    "no JSON": track("{", *USE_KEY),
    "nothing": track("", *USE_KEY),
    "no key": track(EVENT),
    "an unknown key": track(EVENT, "X-API-Key: nobody's"),
    "another content": track(EVENT, "X-API-Key: test_api_key", "Content-Type: text/html"),
    "an id": track(EVENT, *USE_KEY, "X-Request-Id: order-66"),
    "a harmful id": track(EVENT, *USE_KEY, "X-Request-Id: a b<script>"),
    "an id and a refusal": track(EVENT, "X-Request-Id: order-66"),
    "an id that splits": track(EVENT, *USE_KEY, "X-Request-Id: a\rSet-Cookie: b"),
    "two ids": track(EVENT, *USE_KEY, "X-Request-Id: a", "X-Request-Id: b"),
    "the last": track(EVENT, *USE_KEY, "Connection: close"),
    "HTTP/1.0": track(EVENT, *USE_KEY, version="1.0"),
    "too large": track(EVENT, *USE_KEY, length=1 << 20),
    "cut short": track(EVENT, *USE_KEY, length=1000),
    "longer than it says": track(EVENT, *USE_KEY, length=10),
    "two lengths": track(EVENT, *USE_KEY, "Content-Length: 10"),
    "the length twice": track(EVENT, *USE_KEY, f"Content-Length: {len(EVENT)}"),
    "a signed length": track(EVENT, *USE_KEY).replace("Length: ", "Length: +"),
    "a list of lengths": track(EVENT, *USE_KEY).replace("Length: ", "Length: 5, "),
    "a length and chunks": track("0\r\n\r\n", *USE_KEY, "Transfer-Encoding: chunked"),
    "an odd coding": track(EVENT, *USE_KEY, "Transfer-Encoding: xchunked"),
    "a space before the colon": track(EVENT, *USE_KEY).replace("Length:", "Length :"),
    "folding": track(EVENT, *USE_KEY, "X-Folded: a\r\n b"),
    "a folded length": track(EVENT, *USE_KEY).replace("Length: ", "Length:\r\n "),
    "a NUL": track(EVENT, *USE_KEY, "X-Nul: a\x00b"),
    "a line feed": track(EVENT, *USE_KEY, "X-Feed: a\nX-API-Key: b"),
    "two hosts": track(EVENT, *USE_KEY, "Host: y"),
    "an underscore": track(EVENT, *USE_KEY, "X_API_Key: nobody's"),
    "an expectation": track(EVENT, *USE_KEY, "Expect: 100-continue"),
    "many headers": track(EVENT, *USE_KEY, *["X-Many: x"] * 70),
    "a long header": track(EVENT, *USE_KEY, f"X-Long: {'x' * 8300}"),
    "a long line": track(EVENT, *USE_KEY, route=f"event?{'x' * 8300}"),
    "trailing slash": track(EVENT, *USE_KEY, route="event/"),
    "a doubled slash": track(EVENT, *USE_KEY).replace("/api", "//api", 1),
    "an encoded path": track(EVENT, *USE_KEY, route="%65vent"),
    "upper case": track(EVENT, *USE_KEY, route="EVENT"),
    "a key twice": track(EVENT, "Content-Type: text/plain", route="event?api_key=nobody&api_key=test_api_key"),
    "a key encoded": track(EVENT, "Content-Type: text/plain", route="event?api%5Fkey=test%5Fapi%5Fkey"),
    "an empty query": track(EVENT, *USE_KEY, route="event?"),
    "a fragment": track(EVENT, *USE_KEY, route="event#api_key=x"),
    "absolute": track(EVENT, *USE_KEY).replace("/api", "http://x/api", 1),
    "absolute elsewhere": track(EVENT, *USE_KEY).replace("/api", "http://evil.example/api", 1),
    "no host": track(EVENT, *USE_KEY).replace("Host: x\r\n", "X-Other: x\r\n"),
    "spaces about the length": track(EVENT, *USE_KEY)
    .replace("Length: ", "Length: \t ")
    .replace("\r\n\r\n", " \r\n\r\n"),
    "a hexadecimal length": track(EVENT, *USE_KEY).replace("Length: ", "Length: 0x"),
    "a negative length": track(EVENT, *USE_KEY).replace("Length: ", "Length: -"),
    "a length that overflows": track(EVENT, *USE_KEY).replace("Length: ", "Length: 9999999999999999999"),
    "a length with noughts": track(EVENT, *USE_KEY).replace("Length: ", "Length: 00000000"),
    "chunks": track('5\r\n{"typ\r\n0\r\n\r\n', *USE_KEY, "Transfer-Encoding: chunked").replace("Content-Length", "X-L"),
    "a bomb": track(BOMB, *USE_KEY, "Content-Encoding: gzip"),
    "not gzip": track(EVENT, *USE_KEY, "Content-Encoding: gzip"),
    "a preflight": track("", "Origin: https://a.example", "Access-Control-Request-Method: POST").replace(
        "POST", "OPTIONS", 1
    ),
    "a head": track("", *USE_KEY).replace("POST", "HEAD", 1),
    "a get": track("", *USE_KEY).replace("POST", "GET", 1),
    "an unknown method": track(EVENT, *USE_KEY).replace("POST", "PURGE", 1),
    "an upgrade": track(
        EVENT, *USE_KEY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    ),
    "a tab and a colon": track(EVENT, *USE_KEY, "X-Odd:\ta:b"),
    "an empty name": track(EVENT, *USE_KEY, ": b"),
    "an empty line first": "\r\n" + track(EVENT, *USE_KEY),
    "two events": track(EVENT, *USE_KEY) * 2,
    "a head without end": track(EVENT, *USE_KEY).partition("\r\n\r\n")[0],
}
NEXT = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# Nobody minds this header, but with it a request does not take the shortcut.
BY_GUNICORN = "TE: trailers\r\n"
_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|Date: [^\r]*")


def talk(service: RunningService, request: str) -> bytes:
    """Return all that comes back, but for dates and ids, when another request follows at once."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall((request + NEXT).encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        return _IDS.sub(b"*", b"".join(iter(lambda: connection.recv(65536), b"")))


@pytest.mark.parametrize("case", TRACKING)
def test_tracking_answers_are_the_same_by_the_shortcut_and_by_gunicorn(service: RunningService, case: str) -> None:
    request = TRACKING[case]
    found = talk(service, request)
    assert found.startswith((b"HTTP/1.1 ", b"HTTP/1.0 200 "))
    assert found == talk(service, request.replace("Host: x\r\n", f"Host: x\r\n{BY_GUNICORN}", 1))
    assert b"Set-Cookie" not in found and found.count(b"HTTP/1.1 200 OK") <= request.count("POST ") + 1


@pytest.mark.parametrize("by", ["", BY_GUNICORN])
def test_a_refusal_reaches_who_is_still_sending(service: RunningService, by: str) -> None:
    request = track("x" * (2 << 20), *USE_KEY).replace("Host: x\r\n", f"Host: x\r\n{by}", 1)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(request[:1000].encode())
        time.sleep(0.05)  # it is refused by its head
        connection.sendall(request[1000:].encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_tracking_takes_the_shortcut(service: RunningService) -> None:
    pytest.importorskip("gunicorn_h1c")
    assert talk(service, TRACKING["an event"])
    wait_until(lambda: "Tracking requests take the shortcut" in service.log.read_text())


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
@pytest.mark.parametrize("is_accepted", [True, False])
def test_the_wait_for_a_busy_worker_counts(
    service: RunningService, route: str, request_text: str, is_accepted: bool
) -> None:
    """As the client sees it: what lies in the socket meanwhile waits as well, and so does a new connection."""
    urllib.request.urlopen(urllib.request.Request(f"{service.url}/api/v1/performance/reset", method="POST")).close()
    worker = service.processes("web-worker")[0]
    with socket.socket() as connection:
        connection.settimeout(10)
        if is_accepted:  # an answer shows that it is
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(request_text.encode())
            assert b" 200 OK" in connection.recv(65536)
        worker.suspend()
        try:
            if not is_accepted:
                connection.connect(("127.0.0.1", service.port))
            connection.sendall(request_text.encode())
            time.sleep(BUSY_S)
        finally:
            worker.resume()
        assert b" 200 OK" in connection.recv(65536)
    with urllib.request.urlopen(f"{service.url}/api/v1/performance") as answer:
        routes = json.load(answer)["data"]["latency"]["routes"]
    (found,) = [row for row in routes if row["route"] == route]
    assert float(found["p99"].removesuffix("ms")) >= BUSY_S * 1000


@pytest.mark.parametrize("reason", ["it is told to", "the master is killed"])
def test_a_worker_that_stops_closes_idle_connections_and_answers_the_others(
    service: RunningService, reason: str
) -> None:
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
        if reason == "it is told to":
            worker.terminate()
        else:
            service.kill("web")
        assert kept.recv(65536) == silent.recv(65536) == refused.recv(65536) == b""
        begun.sendall(EVENT[20:].encode())
        answer = begun.recv(65536)
        assert b" 200 OK" in answer and b"Connection: close" in answer
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 15)
    service.await_ready()
    if reason == "it is told to":  # a new master may find the port in use for a moment
        assert "ERROR" not in service.log.read_text()[logged:]
