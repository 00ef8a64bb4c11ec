"""What gunicorn itself sends: answers in one write, and its own errors in the shape of all others."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi


class SingleWriteResponse(wsgi.Response):  # type: ignore[misc]
    """Keeps the head until the first piece of the body is there.

    Gunicorn writes the head by itself: a second system call, and a second packet, for each small answer (8 % of a
    worker's time while it takes single events).
    """

    _head = b""
    headers_sent: bool
    # Gunicorn asks it before the application runs; a stop that comes meanwhile would be answered with keep-alive.
    is_stopping: Callable[[], bool] = staticmethod(lambda: False)

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Close the connection where the application says so, whose header gunicorn passes over, or at a stop."""
        if self.is_stopping() or ("Connection", "close") in headers:
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
        util.write(self.sock, head + data)

    def close(self) -> None:
        """Send what is left: the head of an answer without a body, the end of a chunked one."""
        self.send_headers()
        head, self._head = self._head, b""
        if head:
            util.write(self.sock, head)
        super().close()


def write_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
    """Answer a request that never reached the application (gunicorn's own answer is an HTML page)."""
    code = "BAD_REQUEST" if status_int < 500 else "INTERNAL_ERROR"
    message = f"The request can't be read: {reason}." if status_int < 500 else "Something went wrong here."
    body = json.dumps({"success": False, "error": code, "message": message}).encode()
    head = (
        f"HTTP/1.1 {status_int} {HTTPStatus(status_int).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("latin-1") + body)


def install() -> None:
    """Make gunicorn's workers of this process answer so."""
    replacement: Any = SingleWriteResponse
    wsgi.Response = replacement
    util.write_error = write_error
