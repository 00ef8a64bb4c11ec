"""The usual tracking request, answered without gunicorn's request and response objects and a whole WSGI environment.

Between a socket and the application gunicorn spends more than all of our own work on a single event takes. So what is
plainly a `POST` of events in HTTP/1.1 with a `Content-Length` is read by gunicorn's own parser in C, with its limits,
into the few variables that tracking looks at. Whatever else a head holds, and all that can't be read, is left to
gunicorn as it came: its rules are not written here a second time, only what is surely none of their cases.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any, NamedTuple

from gunicorn import SERVER, glogging
from gunicorn.http import message
from gunicorn.http.unreader import IterUnreader
from gunicorn.util import http_date

from pulse.ingest.memo import Memo
from pulse.web.http import MAX_BODY_BYTES
from pulse.web.tracking import TrackingFirst

# What tracking reads of a request, and two that gunicorn looks at: a second Host is refused, Connection may end it.
_READ = {
    "CONTENT-TYPE": "CONTENT_TYPE",
    "CONTENT-LENGTH": "CONTENT_LENGTH",
    **{
        name: "HTTP_" + name.replace("-", "_")
        for name in (
            "HOST", "CONNECTION", "X-API-KEY", "AUTHORIZATION", "CONTENT-ENCODING", "X-FORWARDED-FOR", "USER-AGENT",
            "ACCEPT-LANGUAGE", "X-REQUEST-ID",
        )
    },
}  # fmt: skip
# With these, and with an underscore in a name, the rules are gunicorn's.
_LEFT = frozenset({"TRANSFER-ENCODING", "EXPECT", "UPGRADE", "HTTP2-SETTINGS", "TE", "TRAILER"})
_LEAVE = "leave"
# Spellings of header names that are known at a time; a flood of new ones costs what working them out does.
_NAMES = 512
# A target is printable ASCII without a fragment, as gunicorn demands; the rest of it is a path that is known as it is.
_PRINTABLE = bytes(range(0x21, 0x7F))
_HOOKS = ("pre_request", "post_request")


class Call(NamedTuple):
    """A tracking request as far as its head goes: `end` is where the body ends in the bytes that were read."""

    route: str
    environ: dict[str, Any]
    body_at: int
    end: int


class Shortcut:
    """Reads tracking requests, and words their answers, for one worker."""

    def __init__(self, cfg: Any, tracking: TrackingFirst) -> None:
        self.tracking = tracking
        self._targets = {route.encode(): route for route in tracking.routes}
        self._keys: Memo[bytes, str | None] = Memo(_key_of, size=_NAMES)
        self._parse = _parser(cfg)
        self._second = -1
        self._head = b""

    def read(self, data: bytes, address: str) -> Call | None:
        """Return the call that `data` begins with, None where it is another kind of request or not all of a head."""
        if data[:6] != b"POST /":
            return None
        try:
            found = self._parse(data)
        except Exception:  # noqa: BLE001 - gunicorn finds the same fault in it, and has the words
            return None
        target, _, query = found["path"].partition(b"?")
        route = self._targets.get(target)
        if route is None or found["minor_version"] != 1 or query.translate(None, _PRINTABLE) or b"#" in query:
            return None
        environ: dict[str, Any] = {"REMOTE_ADDR": address, "QUERY_STRING": query.decode("ascii")}
        keys = self._keys
        for name, value in found["headers"]:
            key = keys[name]
            if key is None:
                continue
            if key is _LEAVE or key in environ:
                return None
            environ[key] = value.decode("latin-1")
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isdecimal() and length.isascii() and len(length) < 8) or int(length) > MAX_BODY_BYTES:
            return None
        if "HTTP_CONNECTION" in environ and environ["HTTP_CONNECTION"].lower() != "keep-alive":
            return None
        body_at = found["consumed"]
        return Call(route, environ, body_at, body_at + int(length))

    def word(self, status: str, headers: dict[str, str], body: bytes, *, is_last: bool) -> bytes:
        """Return an answer as gunicorn would send it."""
        if status != "200 OK" or headers or is_last:
            lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
            head = _first_lines(status, "close" if is_last else "keep-alive", time())
            return b"%b%d\r\n%b\r\n%b" % (head, len(body), "".join(lines).encode("latin-1"), body)
        second = int(time())
        if second != self._second:
            self._head = _first_lines(status, "keep-alive", second)
            self._second = second
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


def is_open(cfg: Any, log: Any) -> bool:
    """Tell whether nothing that gunicorn is set to do with each request would be left out."""
    return bool(
        message._check_fast_parser(cfg)
        and cfg.keepalive
        and cfg.protocol == "http"
        and cfg.proxy_protocol == "off"
        and not cfg.is_ssl
        and all(getattr(cfg, name) is cfg.settings[name].default for name in _HOOKS)
        and type(log) is glogging.Logger
        and not log.access_log_enabled
        and not log.error_log.isEnabledFor(logging.DEBUG)
        and "SCRIPT_NAME" not in os.environ
    )


def is_open_to(cfg: Any, address: Any) -> bool:
    """Tell whether a peer's headers mean no more to gunicorn than anybody's: not those of a proxy it trusts."""
    return isinstance(address, tuple) and not message._ip_in_allow_list(
        address[0], cfg.forwarded_allow_ips, cfg.forwarded_allow_networks()
    )


def _first_lines(status: str, connection: str, at: float) -> bytes:
    own = "".join(f"{name}: {value}\r\n" for name, value in TrackingFirst.HEADERS)
    return (
        f"HTTP/1.1 {status}\r\nServer: {SERVER}\r\nDate: {http_date(at)}\r\nConnection: {connection}\r\n"
        f"{own}Content-Length: "
    ).encode("latin-1")


def _key_of(name: bytes) -> str | None:
    text = name.decode("latin-1").upper()
    return _LEAVE if text in _LEFT or "_" in text else _READ.get(text)


def _parser(cfg: Any) -> Callable[[bytes], dict[str, Any]]:
    """Return gunicorn's parser in C with the limits that gunicorn itself makes of its settings."""
    limits = message.Request(cfg, IterUnreader([b"GET / HTTP/1.1\r\n\r\n"]), None)
    return partial(
        message._fast_parser_module.parse_request,
        limit_request_line=limits._fast_limit_request_line,
        limit_request_fields=limits.limit_request_fields,
        limit_request_field_size=limits.limit_request_field_size,
        permit_unconventional_http_method=cfg.permit_unconventional_http_method,
        permit_unconventional_http_version=cfg.permit_unconventional_http_version,
    )
