"""The web worker: gunicorn's own for gevent, with some ways of its own.

The usual tracking request takes the shortcut. When told to stop, or when gunicorn's master is gone, the worker answers
what has begun and does not wait for connections that ask nothing: browsers and load balancers keep connections open for
the next request, gunicorn's worker takes each for a request in work and waits `graceful_timeout` for it. When
connections run short, or unfinished requests take too much memory, it lets go of those that have kept it waiting for
longest: gunicorn's would take no other until one of them ends by itself.
"""

import os
import socket
from contextlib import nullcontext, suppress
from functools import partial
from heapq import nsmallest
from io import BytesIO
from operator import itemgetter
from time import monotonic
from typing import Any

from gevent import GreenletExit, Timeout, get_hub, getcurrent
from gunicorn import http
from gunicorn.http import parser
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.ggevent import GeventWorker

from pulse.errors import RequestTimeout
from pulse.web import gunicorn_answers, shortcut
from pulse.web.arrival import StampingUnreader, stamp_connections
from pulse.web.http import UNREAD
from pulse.web.shortcut import Call, Shortcut
from pulse.web.tracking import REFUSAL, TrackingFirst

# So long a connection of a stopping worker may still bring a request, whose answer then says that it was the last.
IDLE_S = 0.5
# So many bytes a worker keeps of unfinished requests: of 2,000 connections that each hold back the end of a large body
# it would otherwise be a gigabyte. Past that those that began first are given up. Its memory grows by up to three times
# as much: what is given up and what is read meanwhile come on top.
HELD_BYTES = 32 << 20
# Connections run short when no more than this part of `worker_connections` is free. Then those go that have kept the
# worker waiting for at least so long, so many at a time, and the others are looked through (0.3 ms) only so often.
FREE_PART = 16
SLOW_S = 2.0
LET_GO = 32
LOOK_EVERY_S = 0.05
WARN_EVERY_S = 60.0


class Worker(GeventWorker):  # type: ignore[misc]
    """A worker that knows the short way, and stops as soon as the requests which have begun are answered."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each connection has a greenlet of its own.
        self.connections: dict[Any, Connection] = {}
        self._shortcut: Shortcut | None = None
        self._is_undecided = True
        self._plenty = self.worker_connections - max(1, self.worker_connections // FREE_PART)
        self._held = 0
        self._look_at = 0.0
        self._look_at_bodies = 0.0
        self._warn_at = 0.0

    def init_process(self) -> None:
        """Take up connections in our way; say of last answers that they are."""
        for listener in self.sockets:
            stamp_connections(listener.sock)
        http.RequestParser = partial(Connection, self)
        gunicorn_answers.SingleWriteResponse.is_stopping = staticmethod(lambda: not self.alive)
        super().init_process()

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Answer a connection's requests until its end."""
        self.make_room()
        try:
            super().handle(listener, client, addr)
        finally:
            if connection := self.connections.pop(getcurrent(), None):
                connection.let_go()

    def timeout_ctx(self) -> Any:
        """How long to wait for the next request, which a connection of ours knows itself."""
        return nullcontext() if getcurrent() in self.connections else super().timeout_ctx()

    def find_shortcut(self) -> Shortcut | None:
        """Return the short way of tracking requests; None where gunicorn has more to do, or nothing is built yet."""
        if self._is_undecided:
            tracking = getattr(self.wsgi, "wsgi_app", self.wsgi)
            self._is_undecided = tracking is None
            if isinstance(tracking, TrackingFirst) and shortcut.is_open(self.cfg, self.log):
                self._shortcut = Shortcut(self.cfg, tracking)
                self.log.info("Tracking requests take the shortcut")
        return self._shortcut

    def count_request(self) -> None:
        """Count a request as gunicorn does, which ends a worker after `max_requests`."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def notify(self) -> None:
        """Tell gunicorn that this worker lives, as it does every second; let go of connections idle for too long.

        When gunicorn's master is gone the worker stops as if it had been told to: gunicorn's own would exit at once,
        with requests unanswered and, until its last group is stored, others refused.
        """
        if os.getppid() == self.ppid:
            super().notify()
        elif self.alive:
            self.log.warning("The master is gone: this worker stops")
            self.alive = False
        since = monotonic() - (self.cfg.keepalive if self.alive else IDLE_S)
        for connection in list(self.connections.values()):
            connection.close_if_waiting(since)
        self.make_room()

    def make_room(self) -> None:
        """Let go of connections that have kept the worker waiting for longest if there is hardly room for others.

        Those without a request go first, then those whose request is slow in coming: they are answered 408. Those that
        are slow in taking an answer go last.
        """
        missing = len(self.connections) + 1 - self._plenty
        if missing <= 0 or (now := monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        waiting = ((connection.keeps_waiting(), connection) for connection in self.connections.values())
        slow = [(place, found) for place, found in waiting if place is not None and place[1] <= now - SLOW_S]
        for _, connection in nsmallest(max(missing, LET_GO), slow, key=itemgetter(0)):
            connection.give_up()
        if slow:
            share = f"{len(self.connections)} of {self.worker_connections} connections"
            self._warn(now, f"{share} are in use: those that keep the worker waiting are closed")

    def hold(self, count: int) -> None:
        """Note so many bytes more, or fewer, of requests that are not answered; past HELD_BYTES look for slow ones."""
        self._held += count
        if self._held <= HELD_BYTES or count < 0 or (now := monotonic()) < self._look_at_bodies:
            return
        self._look_at_bodies = now + LOOK_EVERY_S
        waiting = ((connection.keeps_waiting(), connection) for connection in self.connections.values())
        begun = [(place[1], connection) for place, connection in waiting if place is not None and place[0] == 1]
        # Not what is passed over after a refusal, nor what is whole and waits to be stored.
        reading = self.connections[getcurrent()].unfinished_bytes()
        excess = sum(connection.unreader.held for _, connection in begun) + reading - HELD_BYTES
        if excess <= 0:
            return
        for _, connection in sorted(begun, key=itemgetter(0)):
            if excess <= 0:
                break
            excess -= connection.unreader.held
            connection.give_up()
            connection.unreader.release()  # it is, as soon as its greenlet has its turn
        self._warn(now, f"unfinished requests take over {HELD_BYTES >> 20} MiB: those that began first are given up")

    def _warn(self, now: float, message: str) -> None:
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY_S
            self.log.warning("%s", message)


class Connection(parser.RequestParser):  # type: ignore[misc]
    """A connection's requests one after the other, as gunicorn asks for them; those of the shortcut it never sees."""

    mesg: Any

    def __init__(self, worker: Worker, cfg: Any, source: Any, address: Any) -> None:
        super().__init__(cfg, source, address)
        self.unreader = StampingUnreader(source, worker.hold)
        self._worker = worker
        self._sock = source
        self._may_be_short = shortcut.is_open_to(cfg, address)
        self._readable = get_hub().loop.io(source.fileno(), 1)
        self._is_new = True
        self._began_at = 0.0
        self._is_waiting = False
        worker.connections[getcurrent()] = self

    def close_if_waiting(self, since: float) -> None:
        """Close it if it has been waiting for a request's first byte since then."""
        if self._is_waiting and self._began_at <= since:
            self._shut(socket.SHUT_RD)

    def unfinished_bytes(self) -> int:
        """Return how much has come of a request, as long as it is one that will be answered."""
        return 0 if self._is_waiting else self.unreader.held

    def keeps_waiting(self) -> tuple[int, float] | None:
        """Tell what the worker waits for, the cheapest to give up first, and since when; None if it works.

        0 is a request, 1 the rest of one, 2 that its answer is taken.
        """
        if (since := gunicorn_answers.sending_since.get(self._sock)) is not None:
            return 2, since
        if self.unreader.is_given_up:
            return None
        if self._is_waiting:
            return 0, self._began_at
        return (1, self.unreader.begun_at) if self.unreader.is_waiting else None

    def give_up(self) -> None:
        """Wait no longer for what this client has to send, or to take."""
        self.unreader.is_given_up = True
        self._shut(socket.SHUT_RDWR if self._sock in gunicorn_answers.sending_since else socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        # The reader still gets what has arrived, then the end; the sender fails: its greenlet closes the connection.
        # Past gevent's socket, which would break off the wait: gunicorn logs that as an error.
        with suppress(OSError):
            self._sock._sock.shutdown(how)

    def let_go(self) -> None:
        """Free what it holds of the event loop, and of what requests may take."""
        self._readable.close()
        self.unreader.release()

    def __next__(self) -> Any:
        """Return the next request for gunicorn, None when the last one's rest is too long in coming.

        Raises StopIteration at the end.
        """
        if not self.cfg.keepalive:
            return self._read_request()
        if self.mesg is not None and not self._end_last():
            return None
        short = self._worker.find_shortcut() if self._may_be_short else None
        while True:
            data = self._read_first(short is not None)
            call = None if short is None else short.read(data, self.source_addr[0])
            if short is None or call is None:
                break
            self.req_count += 1
            request = self._answer(short, call, data)
            if request is not None:
                return request
        self.unreader.unread(data)
        return self._read_request()

    def _read_request(self) -> Any:
        """Return a request as gunicorn reads it. Raises StopIteration when there is none, or it takes too long."""
        self.unreader.begin()
        try:
            return super().__next__()
        except TimeoutError:
            gunicorn_answers.refuse(self._sock, RequestTimeout())
            raise StopIteration from None

    def _end_last(self) -> bool:
        """Read what is left of gunicorn's last request. Raises StopIteration if it was to be the last.

        The rest of a request that was refused by its head is not a request that begins: nobody has to wait for it.
        """
        self._began_at = monotonic()
        self._is_waiting = True
        with Timeout(self.cfg.keepalive, False):
            if self.mesg.should_close() or not self.finish_body():
                raise StopIteration
            self.mesg = None
        self._is_waiting = False
        return self.mesg is None

    def _read_first(self, may_wait: bool) -> bytes:
        """Return the first bytes of a request. Raises StopIteration when the client has closed."""
        self._began_at = monotonic()
        self.unreader.end()
        if self.unreader.buf.getbuffer().nbytes:
            return bytes(self.unreader.read())
        self._is_waiting = True
        if may_wait and not self._is_new:
            get_hub().wait(self._readable)  # a try would find nothing yet: a system call and an exception, 3 µs
        self._is_new = False
        data = self.unreader.read()
        self._is_waiting = False
        if not data:
            raise StopIteration
        return bytes(data)

    def _answer(self, short: Shortcut, call: Call, data: bytes) -> Any:
        """Answer a tracking request; return it for gunicorn when it has to be refused in words."""
        environ, rest = call.environ, data[call.end :]
        if call.end <= len(data):
            environ["wsgi.input"] = BytesIO(data[call.body_at : call.end])
        else:  # as gunicorn reads it: in pieces
            rest = data[call.body_at :]
            environ["wsgi.input"] = Body(LengthReader(self.unreader, call.end - call.body_at))
            self.unreader.begin()
        if rest:
            self.unreader.unread(rest)
        try:
            answer = short.tracking.answer(call.route, environ)
        except (GreenletExit, SystemExit):
            raise StopIteration from None  # as the worker's own handle_request, it is being ended
        if answer is None:
            return self._hand_over(data[: call.body_at], environ)
        self._worker.count_request()
        is_last = not self._worker.alive
        gunicorn_answers.send(self._sock, short.word(*answer, is_last=is_last))
        if is_last or not self._is_at_end(data[: call.body_at], environ):
            raise StopIteration
        return None

    def _is_at_end(self, head: bytes, environ: dict[str, Any]) -> bool:
        """Tell whether the next request comes next: what was answered before its body had been read is read now."""
        body = environ["wsgi.input"]
        if isinstance(body, BytesIO) or not body.reader.length:
            return True
        self._hand_over(head, environ)
        return self._end_last()

    def _hand_over(self, head: bytes, environ: dict[str, Any]) -> Any:
        """Return the request as gunicorn reads it, what is left of its body, and why it is refused."""
        self.mesg = self.mesg_class(self.cfg, IterUnreader([head]), self.source_addr, self.req_count)
        body = environ["wsgi.input"]
        if isinstance(body, BytesIO):
            body = Body(LengthReader(self.unreader, 0))
        body.found = {name: environ[name] for name in (REFUSAL, UNREAD) if name in environ}
        self.mesg.body = body
        return self.mesg
