"""Gunicorn's response, with head and body in one write."""

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


def install() -> None:
    """Make gunicorn's workers of this process answer through it."""
    replacement: Any = SingleWriteResponse
    wsgi.Response = replacement
