"""The web worker: gunicorn's own for gevent, which when told to stop does not wait for connections that ask nothing.

Browsers and load balancers keep connections open for the next request. Gunicorn's worker takes each for a request in
work and waits `graceful_timeout` for it.
"""

import socket
from contextlib import suppress
from time import monotonic
from typing import Any

from gevent import getcurrent
from gunicorn import http
from gunicorn.http import parser
from gunicorn.workers.ggevent import GeventWorker

from pulse.web import gunicorn_answers
from pulse.web.arrival import StampingUnreader

# So long a connection of a stopping worker may still bring a request, whose answer then says that it was the last.
IDLE_S = 0.5

# Each connection has a greenlet of its own: its socket, and since when it has been waiting for a request's first byte.
_sockets: dict[Any, socket.socket] = {}
_waiting: dict[Any, float] = {}


class WaitingUnreader(StampingUnreader):
    """A reader of a connection that says when a request begins to come in."""

    is_discarding = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Read what is there."""
        data = super().chunk(size_hint)
        if not self.is_discarding:
            _waiting.pop(getcurrent(), None)
        return data


class WaitingParser(parser.RequestParser):  # type: ignore[misc]
    """A parser of a connection's requests for which the rest of one that was answered is not a request that begins."""

    def finish_body(self, *limits: Any, **named_limits: Any) -> bool:
        """Throw away what the application left unread, as of a request that was refused by its head."""
        self.unreader.is_discarding = True
        try:
            return bool(super().finish_body(*limits, **named_limits))
        finally:
            self.unreader.is_discarding = False


class Worker(GeventWorker):  # type: ignore[misc]
    """A worker that stops as soon as the requests which have begun are answered."""

    def init_process(self) -> None:
        """Take up connections with a reader that says what they wait for; say of last answers that they are."""
        parser.SocketUnreader = WaitingUnreader
        http.RequestParser = WaitingParser
        gunicorn_answers.SingleWriteResponse.is_stopping = staticmethod(lambda: not self.alive)
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Answer a connection's requests until its end."""
        me = getcurrent()
        _sockets[me] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del _sockets[me]
            _waiting.pop(me, None)

    def timeout_ctx(self) -> Any:
        """How long to wait for the next request, which begins here."""
        _waiting[getcurrent()] = monotonic()
        return super().timeout_ctx()

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> None:
        """Answer a request; one that came together with the last was read already."""
        _waiting.pop(getcurrent(), None)
        super().handle_request(listener_name, req, sock, addr)

    def notify(self) -> None:
        """Tell gunicorn that this worker lives, as it does every second; let go of idle connections when stopping."""
        super().notify()
        if not self.alive:
            _close_idle(monotonic() - IDLE_S)


def _close_idle(since: float) -> None:
    for greenlet, began_at in list(_waiting.items()):
        if began_at <= since:
            # The reader still gets what has arrived, then the end: its greenlet closes the connection. By a second
            # handle, as gevent would break off the waiting read, which gunicorn logs as an error.
            with suppress(OSError), _sockets[greenlet].dup() as handle:
                handle.shutdown(socket.SHUT_RD)
