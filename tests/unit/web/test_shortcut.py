"""What may pass gunicorn by, and what it reads of it: the same as gunicorn."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pulse.web.shortcut import Shortcut, is_open, is_open_to
from pulse.web.tracking import TrackingFirst

pytest.importorskip("gunicorn_h1c")

EVENT = "/api/v1/track/event"
PEER = ("203.0.113.7", 4711)
USUAL = (
    f"POST {EVENT}?api_key=a%20b&x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (\xe9)\r\n"
    "content-type: text/plain;charset=UTF-8\r\nContent-Length: 2\r\nX-API-KEY: secret \r\nAuthorization: Bearer x\r\n"
    "Accept-Language: de, en;q=0.7\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nContent-Encoding: gzip\r\n"
    "X-Request-Id: abc-1\r\nConnection: Keep-Alive\r\nSec-Fetch-Mode: cors\r\nCookie: a=b\r\nReferer:\r\n\r\n"
)


def settings(**changed: Any) -> Config:
    cfg = Config()
    for name, value in {"keepalive": 75, "limit_request_fields": 20, "forwarded_allow_ips": "", **changed}.items():
        cfg.set(name, value)
    return cfg


def make_shortcut(cfg: Config) -> Shortcut:
    """The shortcut of a worker, without a service behind it."""
    return Shortcut(cfg, TrackingFirst(SimpleNamespace(), lambda *_: (), "/api/v1"))  # type: ignore[arg-type]


@pytest.fixture
def shortcut() -> Shortcut:
    """The one of usual settings."""
    cfg = settings()
    assert is_open(cfg, Logger(cfg))
    return make_shortcut(cfg)


def test_it_reads_what_gunicorn_reads(shortcut: Shortcut) -> None:
    data = USUAL.encode("latin-1") + b"{}"
    call = shortcut.read(data + b"GET /next", PEER[0])
    assert call is not None and call.route == EVENT and data[call.body_at : call.end] == b"{}"
    cfg = settings()
    request = Request(cfg, IterUnreader([data]), PEER)
    _, environ = wsgi.create(request, SimpleNamespace(), PEER, ("127.0.0.1", 80), cfg)
    assert call.environ == {name: environ[name] for name in call.environ}
    assert {"HTTP_COOKIE", "HTTP_REFERER", "HTTP_SEC_FETCH_MODE"} == {
        name for name in environ if name.startswith("HTTP_")
    } - set(call.environ)


LINES = [
    *USUAL.split("\r\n")[1:-2], "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked", "Connection: close",
    "Expect: 100-continue", "X_API_Key: x", "X-Api-Key: x", "Content-Type: a/b", "X-Forwarded-For: 192.0.2.9",
    " folded",
]  # fmt: skip
PIECES = ["\r\n", "\n", "\r", " ", "\t", ":", ",", "\x00", "_", "2", "+", "#", "?", "/", "%", "\xe9", ""]
HEADS = st.tuples(
    st.lists(st.sampled_from(LINES), max_size=6),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(PIECES)), max_size=2),
)


@given(HEADS)
@hypothesis_settings(max_examples=400)
def test_whatever_it_takes_gunicorn_reads_alike(head: tuple[list[str], list[tuple[int, int, str]]]) -> None:
    lines, edits = head
    text = "\r\n".join([USUAL.partition("\r\n")[0], "Content-Length: 2", *lines, "", "{}"])
    for place, length, piece in edits:
        text = text[:place] + piece + text[place + length :]
    data = text.encode("latin-1")
    cfg = settings()
    call = make_shortcut(cfg).read(data, PEER[0])
    if call is None:
        return
    reader = IterUnreader([data])
    request = Request(cfg, reader, PEER)
    _, environ = wsgi.create(request, SimpleNamespace(), PEER, ("127.0.0.1", 80), cfg)
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"], request.version) == ("POST", call.route, (1, 1))
    assert call.environ == {name: environ[name] for name in call.environ}
    assert not request.should_close() and not request._expected_100_continue
    assert data[call.body_at : call.end] == request.body.read() and data[call.end :] == reader.take_buffered()


def line(text: str) -> Callable[[str], str]:
    return lambda usual: usual.replace("Host: example.com\r\n", f"Host: example.com\r\n{text}\r\n")


def instead(old: str, new: str) -> Callable[[str], str]:
    return lambda usual: usual.replace(old, new)


@pytest.mark.parametrize(
    "change",
    [
        instead("POST ", "GET "),
        instead("POST ", "post "),
        instead("POST ", "\r\nPOST "),
        instead("POST /", "POST http://example.com/"),
        instead("POST /", "POST //"),
        instead("track/event", "track/%65vent"),
        instead("track/event", "track/events"),
        instead("track/event", "goals"),
        instead("x=1", "x=1#fragment"),
        instead("x=1", "x=\xe9"),
        instead("x=1", "x=\x7f"),
        instead("x=1", "x" * 8190),
        instead("HTTP/1.1", "HTTP/1.0"),
        instead("HTTP/1.1", "HTTP/1.2"),
        instead("HTTP/1.1\r\n", "HTTP/1.1\n"),
        instead("Content-Length: 2\r\n", ""),
        instead("Content-Length: 2", "Content-Length: 524289"),
        instead("Content-Length: 2", "Content-Length: +2"),
        instead("Content-Length: 2", "Content-Length: 0x2"),
        instead("Content-Length: 2", "Content-Length: 2, 2"),
        instead("Content-Length: 2", "Content-Length: 2_0"),
        instead("Content-Length: 2", "Content-Length: \xb2"),
        instead("Content-Length: 2", "Content-Length:\r\n 2"),
        instead("Content-Length: 2", "Content-Length : 2"),
        instead("Connection: Keep-Alive", "Connection: close"),
        instead("Connection: Keep-Alive", "Connection: keep-alive, Upgrade"),
        instead("Sec-Fetch-Mode: cors\r\n", "Sec-Fetch-Mode: cors\r\n folded\r\n"),
        instead("Sec-Fetch-Mode: cors\r\n", "Sec-Fetch-Mode: cors\n"),
        instead("Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: c\x00rs"),
        instead("Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: c\rrs"),
        instead("Sec-Fetch-Mode: cors", "Sec(Fetch: cors"),
        instead("Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: " + "x" * 8190),
        instead("Sec-Fetch-Mode: cors\r\n", "Sec-Fetch-Mode: cors\r\n" * 20),
        instead("\r\n\r\n", "\r\n"),
        line("Content-Length: 2"),
        line("Host: other.example"),
        line("Content-Type: application/json"),
        line("x-api-key: another"),
        line("X-Forwarded-For: 192.0.2.9"),
        line("Connection: close"),
        line("Transfer-Encoding: chunked"),
        line("transfer-encoding: identity"),
        line("Expect: 100-continue"),
        line("Upgrade: h2c"),
        line("X_API_KEY: another"),
        line("X_Forwarded_For: 192.0.2.9"),
        line("SCRIPT_NAME: /api"),
    ],
)
def test_all_else_is_left_to_gunicorn(shortcut: Shortcut, change: Callable[[str], str]) -> None:
    assert change(USUAL) != USUAL
    assert shortcut.read(change(USUAL).encode("latin-1"), PEER[0]) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"http_parser": "python"},
        {"permit_obsolete_folding": True},
        {"keepalive": 0},
        {"accesslog": "-"},
        {"loglevel": "debug"},
        {"proxy_protocol": "auto"},
        {"certfile": "cert.pem"},
        {"pre_request": lambda worker, req: None},
        {"post_request": lambda worker, req: None},
    ],
)
def test_it_is_closed_where_gunicorn_has_more_to_do(changed: dict[str, Any]) -> None:
    cfg = settings(**changed)
    assert not is_open(cfg, Logger(cfg))


def test_it_is_closed_under_a_path_and_to_another_log(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = settings()
    assert not is_open(cfg, type("Statsd", (Logger,), {})(cfg))
    monkeypatch.setenv("SCRIPT_NAME", "/pulse")
    assert not is_open(cfg, Logger(cfg))


def test_proxies_that_gunicorn_trusts_go_its_way() -> None:
    cfg = settings(forwarded_allow_ips="127.0.0.1,10.0.0.0/8")
    assert is_open_to(cfg, PEER) and not is_open_to(cfg, ("10.1.2.3", 1)) and not is_open_to(cfg, "")
    assert not is_open_to(settings(forwarded_allow_ips="*"), PEER)


def test_answers_hold_what_gunicorn_sends(shortcut: Shortcut, monkeypatch: pytest.MonkeyPatch) -> None:
    for second, date in ((0, b"Thu, 01 Jan 1970 00:00:00 GMT"), (1, b"Thu, 01 Jan 1970 00:00:01 GMT")):
        monkeypatch.setattr("pulse.web.shortcut.time", lambda second=second: second + 0.9)
        answer = shortcut.word("200 OK", {}, b"{}", is_last=False)
        assert answer == (
            b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: %b\r\nConnection: keep-alive\r\n"
            b"Content-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\n{}" % date
        )
    last = shortcut.word("503 Service Unavailable", {"Retry-After": "1"}, b"{}", is_last=True)
    assert last.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") and b"\r\nConnection: close\r\n" in last
    assert last.endswith(b"\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\n{}")
