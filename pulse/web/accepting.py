"""Which web worker takes a new connection: one that has fewer.

All workers wait at one socket, and whoever is awake takes what comes: of eight connections opened at once one worker
was seen to take all, and to keep them for as long as they were open, while the other had nothing to do. So the workers
of a gunicorn count their connections in memory that they share, and one that has two more than another leaves a new one
to it for a moment.

Each is an open file, and where the system allows a process fewer than it may have connections, an accept that fails
for want of one would be followed by statements that do: so the limit is raised as far as it goes, and kept to.
"""

import mmap
import resource
import struct
from collections.abc import Iterator
from typing import Any

from gevent.server import StreamServer
from gunicorn.workers import ggevent

# So many workers take part; further ones take what they can.
PLACES = 64
# How many connections more than another's make a worker stand back, and for how long: the other may be busy.
AHEAD = 2
STAND_BACK_S = 0.002
# Files that a worker opens itself: connections to the database and the cache, statistics, the spool.
OWN_FILES = 200

_place = struct.Struct("=ii")  # whether it is taken, and the open connections of the worker that has it


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as needed; return how many connections there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        files = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, files - OWN_FILES)


class Tally:
    """The open connections of each worker, in memory shared with processes that are forked later."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, PLACES * _place.size)

    def enter(self) -> int | None:
        """Take a place for a worker, None when there is none left; for the parent, which forks them one by one."""
        for place, (taken, _) in enumerate(_place.iter_unpack(self._page)):
            if not taken:
                self.write(place, 0)
                return place
        return None

    def leave(self, place: int | None) -> None:
        """Give a place back."""
        if place is not None:
            _place.pack_into(self._page, place * _place.size, 0, 0)

    def write(self, place: int, connections: int) -> None:
        """Set how many connections the worker in a place has."""
        _place.pack_into(self._page, place * _place.size, 1, connections)

    def read(self) -> Iterator[int]:
        """Give out the connections of every worker (4 µs)."""
        return (connections for taken, connections in _place.iter_unpack(self._page) if taken)


tally = Tally()


class FairServer(StreamServer):  # type: ignore[misc]
    """Gevent's server, which stands back from a new connection while another worker has fewer."""

    place: int | None = None
    tally = tally

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = 0
        self._stood_back = False

    def _do_read(self) -> None:
        # Not twice in turn: what is still there after a moment is for this worker.
        self._stood_back = not self._stood_back and self._is_ahead()
        if not self._stood_back:
            super()._do_read()
            return
        self.stop_accepting()
        self._timer = self.loop.timer(STAND_BACK_S)  # as gevent itself does after a failure
        self._timer.start(self._start_accepting_if_started)

    def _is_ahead(self) -> bool:
        return self.place is not None and min(self.tally.read()) + AHEAD <= self._connections

    def do_handle(self, *args: Any) -> None:
        """Handle a connection in a greenlet of its own."""
        self._count(1)
        super().do_handle(*args)

    def do_close(self, *args: Any) -> None:
        """Close a connection, which gevent does in any case."""
        self._count(-1)
        super().do_close(*args)

    def _count(self, more: int) -> None:
        self._connections += more
        if self.place is not None:
            self.tally.write(self.place, self._connections)

    def close(self) -> None:
        """Take no more connections; the others need not wait for this worker any longer."""
        self.tally.leave(self.place)
        self.place = None
        super().close()


def install(place: int | None) -> None:
    """Make this process's gunicorn worker accept so, in its place."""
    FairServer.place = place
    ggevent.StreamServer = FairServer
