"""When a request arrived: the kernel's time stamp of its bytes.

A worker that is busy leaves requests in their sockets. A clock that starts when Python takes one up does not see that
wait, which is most of a tail; the client does. Costs 1.5 µs a request.
"""

import socket
import ssl
import struct
import sys
from contextvars import ContextVar
from time import perf_counter, time
from typing import Any

from gunicorn.http import parser
from gunicorn.http.unreader import SocketUnreader

# <asm-generic/socket.h>: SO_TIMESTAMPNS, which is the type of the stamp as well; the socket module lacks it.
_STAMPS = 35
_stamp = struct.Struct("@ll")  # struct timespec
_ROOM = socket.CMSG_SPACE(_stamp.size)
# What seems to be older comes of a clock that was set.
MAX_WAIT_S = 60.0

# Each connection has a greenlet, and with it a context, of its own.
_arrived: ContextVar[bytes | None] = ContextVar("pulse_arrived", default=None)


class StampingUnreader(SocketUnreader):  # type: ignore[misc]
    """Gunicorn's reader of a connection, which remembers when what it read last had arrived."""

    def __init__(self, sock: Any, max_chunk: int = 8192) -> None:
        super().__init__(sock, max_chunk)
        self._stamps = sys.platform == "linux" and not isinstance(sock, ssl.SSLSocket)
        if self._stamps:
            sock.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Read what is there, as much as gunicorn's own would."""
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


def install() -> None:
    """Make gunicorn's workers of this process note it."""
    parser.SocketUnreader = StampingUnreader
