"""How requests arrive: when their bytes did, and how long a worker waits for the rest of one.

A worker that is busy leaves requests in their sockets. A clock that starts when Python takes one up does not see that
wait, which is most of a tail; the client does. The kernel's time stamp of the bytes costs 1.5 µs a request.

It is asked for once, at the socket that listens: connections inherit it, also for what a client sends before a worker
accepts it. Linux begins to stamp about a millisecond after the first socket has asked for it.
"""

import socket
import ssl
import struct
import sys
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic, perf_counter, time
from typing import Any

from gunicorn.http.unreader import SocketUnreader

# <asm-generic/socket.h>: SO_TIMESTAMPNS, which is the type of the stamp as well; the socket module lacks it.
_STAMPS = 35
_CAN_STAMP = sys.platform == "linux"
_stamp = struct.Struct("@ll")  # struct timespec
_ROOM = socket.CMSG_SPACE(_stamp.size)
# What seems to be older comes of a clock that was set.
MAX_WAIT_S = 60.0

# Waiting for a request's head and body may take so long in all, and a second more for each so many bytes that came: who
# sends a batch of 100 KiB over the slowest mobile network is in time, who sends a byte now and then is not.
PATIENCE_S = 30.0
SLOWEST_BYTES_PER_S = 4096

# Each connection has a greenlet, and with it a context, of its own.
_arrived: ContextVar[bytes | None] = ContextVar("pulse_arrived", default=None)


def stamp_connections(listener: socket.socket) -> None:
    """Have the kernel stamp what arrives in the connections that this socket accepts."""
    if _CAN_STAMP:
        listener.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)


class StampingUnreader(SocketUnreader):  # type: ignore[misc]
    """Gunicorn's reader of a connection, which remembers when what it read last had arrived, and loses patience.

    It is patient until `begin`: the wait for a request's first byte has limits of its own. What came since `end` is
    `held`, and `on_hold` is told of each change.
    """

    def __init__(self, sock: Any, on_hold: Callable[[int], None] = lambda _: None) -> None:
        super().__init__(sock)
        self._on_hold = on_hold
        self.held = 0
        self._stamps = _CAN_STAMP and not isinstance(sock, ssl.SSLSocket)
        self._patience_s: float | None = None
        self.begun_at = 0.0
        self.is_waiting = False
        self.is_given_up = False

    def begin(self) -> None:
        """Wait for the rest of a request only as long as it may take; what is done meanwhile does not count."""
        self._patience_s = PATIENCE_S
        self.begun_at = monotonic()

    def end(self) -> None:
        """Wait for as long as it takes: what comes next is another request."""
        self._patience_s = None
        self.release()

    def release(self) -> None:
        """Count what came as gone."""
        if self.held:
            self._hold(-self.held)

    def _hold(self, count: int) -> None:
        self.held += count
        self._on_hold(count)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Read what is there, as much as gunicorn's own would. Raises TimeoutError when the rest takes too long."""
        if self._patience_s is None:
            data = self._receive(size_hint)
            self._hold(len(data))
            return data
        since = monotonic()
        self.sock.settimeout(max(0.001, self._patience_s))
        self.is_waiting = True
        try:
            data = self._receive(size_hint)
        finally:
            self.is_waiting = False
            self.sock.settimeout(None)
        if not data and self.is_given_up:
            raise TimeoutError("others need the connection")
        self._patience_s += len(data) / SLOWEST_BYTES_PER_S - (monotonic() - since)
        self._hold(len(data))
        return data

    def _receive(self, size_hint: int | None) -> bytes:
        if not self._stamps:
            return bytes(super().chunk(size_hint))
        size = self.mxchunk
        if size_hint and size_hint > size:
            size = min(size_hint, self.max_body_chunk)
        data, notes, _, _ = self.sock.recvmsg(size, _ROOM)
        _arrived.set(notes[0][2] if notes else None)
        return bytes(data)


def started_at() -> float:
    """When the bytes that were read last had arrived, by the clock of `perf_counter`; now where nobody knows."""
    now, stamp = perf_counter(), _arrived.get()
    if stamp is None:
        return now
    seconds, nanoseconds = _stamp.unpack(stamp)
    waited_s = time() - seconds - nanoseconds / 1e9
    return now - waited_s if 0.0 < waited_s < MAX_WAIT_S else now
