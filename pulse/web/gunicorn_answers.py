"""What gunicorn itself sends: answers in one write, and its own errors in the shape of all others."""

import errno
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Any

from gevent import Timeout
from gunicorn import util
from gunicorn.http import wsgi

from pulse.errors import PulseError
from pulse.web.arrival import PATIENCE_S, SLOWEST_BYTES_PER_S
from pulse.web.http import encode_error

# What a refused client still sends is passed over for so long, and up to so many bytes, which takes 2 ms.
LINGER_S = 2.0
LINGER_BYTES = 4 << 20

# Since when each socket has been sending: others see only those that wait for a client to take its answer.
sending_since: dict[Any, float] = {}


class SingleWriteResponse(wsgi.Response):  # type: ignore[misc]
    """Keeps the head until the first piece of the body is there.

    Gunicorn writes the head by itself: a second system call, and a second packet, for each small answer (8 % of a
    worker's time while it takes single events).
    """

    _head = b""
    _is_early = False
    headers_sent: bool
    # Gunicorn asks it before the application runs; a stop that comes meanwhile would be answered with keep-alive.
    is_stopping: Callable[[], bool] = staticmethod(lambda: False)

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Close the connection where the application says so, whose header gunicorn passes over, or at a stop."""
        self._is_early = ("Connection", "close") in headers
        if self._is_early or self.is_stopping():
            self.force_close()
        super().process_headers(headers)

    def send_headers(self) -> None:
        """Prepare the head; it goes out with what comes next."""
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = util.to_bytestring("".join(lines), "latin-1")
        self.headers_sent = True

    def can_sendfile(self) -> bool:
        """Never: files are few here, and it would write past the head."""
        return False

    def _emit_body(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        send(self.sock, head + data)

    def close(self) -> None:
        """Send what is left: the head of an answer without a body, the end of a chunked one.

        Gunicorn's own would wait without limit for that end to be taken.
        """
        self.send_headers()
        rest, self._head = self._head, b""
        if self.chunked:
            rest += b"0\r\n\r\n"
        if rest:
            send(self.sock, rest)
        if self._is_early:
            linger(self.sock)


def send(sock: Any, data: bytes) -> None:
    """Send all of it. Raises BrokenPipeError when the client takes it slower than it may send itself.

    Gunicorn passes over that one; a TimeoutError it would log with a stack trace each time.
    """
    limit_s = PATIENCE_S + len(data) / SLOWEST_BYTES_PER_S
    sending_since[sock] = monotonic()
    sock.timeout = limit_s  # not by settimeout, which takes ten times as long; gevent's send heeds no limit it is given
    try:
        sent = sock.send(data)
        if sent < len(data):
            sock.sendall(memoryview(data)[sent:])
    except TimeoutError:
        raise BrokenPipeError(errno.EPIPE, "the answer is not taken in time") from None
    finally:
        sock.timeout = None
        del sending_since[sock]


def linger(sock: Any) -> None:
    """Say that this was the last answer, and pass over what still comes, before the caller closes the connection.

    To close it with bytes unread resets it, and the client may lose the answer with it (RFC 9112, section 9.6): it
    would send its too large batch again and again.
    """
    left = LINGER_BYTES
    with suppress(OSError), Timeout(LINGER_S, False):
        sock.shutdown(socket.SHUT_WR)
        while left > 0 and (data := sock.recv(65536)):
            left -= len(data)


def write_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
    """Answer a request that never reached the application (gunicorn's own answer is an HTML page)."""
    code = "BAD_REQUEST" if status_int < 500 else "INTERNAL_ERROR"
    message = f"The request can't be read: {reason}." if status_int < 500 else "Something went wrong here."
    _write_last(sock, status_int, json.dumps({"success": False, "error": code, "message": message}).encode())


def refuse(sock: Any, error: PulseError) -> None:
    """Answer a request that has not been read to its end; the caller closes the connection."""
    _write_last(sock, error.status, encode_error(error)[0])


def _write_last(sock: Any, status: int, body: bytes) -> None:
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("latin-1") + body)
    linger(sock)


def install() -> None:
    """Make gunicorn's workers of this process answer so."""
    replacement: Any = SingleWriteResponse
    wsgi.Response = replacement
    util.write_error = write_error
