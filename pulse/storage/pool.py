"""A QueuePool that keeps a minimum, closes what idles above it, and counts who waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool at one moment, in connections; `waiting` counts callers without one."""

    total: int
    idle: int
    in_use: int
    waiting: int
    max: int
    min: int
    timeouts: int


class PulsePool(QueuePool):
    """SQLAlchemy's QueuePool with a floor, an idle time-out and a count of waiters.

    QueuePool alone can only keep `pool_size` connections for ever or close each overflow connection the moment it
    comes back; a burst then pays for a new connection (5 ms) again and again. Here `pool_size` is the maximum, no
    overflow, connections are taken last-in-first-out so that the surplus goes idle, and a reaper closes that surplus.
    """

    def __init__(self, creator: Any, pool_size: int = 20, timeout: float = 30.0, **options: Any) -> None:
        options |= {"max_overflow": 0, "use_lifo": True}
        super().__init__(creator, pool_size=pool_size, timeout=timeout, **options)
        self._min_size = 2
        self._idle_timeout_s = 10.0
        self._waiting = 0
        self._timeouts = 0

    def recreate(self) -> "PulsePool":
        """Make an empty pool of the same settings (SQLAlchemy calls this after a dispose)."""
        fresh = self.__class__(
            self._creator,
            pool_size=self._pool.maxsize,
            timeout=self._timeout,
            recycle=self._recycle,
            pre_ping=self._pre_ping,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        fresh.keep(self._min_size, self._idle_timeout_s)
        return fresh

    def keep(self, min_size: int, idle_timeout_s: float) -> None:
        """Set how many connections stay open, and after how long the others are closed."""
        self._min_size = min_size
        self._idle_timeout_s = idle_timeout_s

    def status(self) -> str:
        """Describe the pool in one line, as SQLAlchemy's pools do."""
        now = self.snapshot()
        return f"{now.in_use} of {now.max} connections in use, {now.idle} idle, {now.waiting} waiting"

    def snapshot(self) -> PoolStatus:
        """Return the present state of the pool."""
        total = self.size() + self._overflow  # one reading: callers blocked in the queue hold no slot
        idle = min(self.checkedin(), total)
        return PoolStatus(
            total=total,
            idle=idle,
            in_use=total - idle,
            waiting=self._waiting,
            max=self.size(),
            min=self._min_size,
            timeouts=self._timeouts,
        )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        except PoolTimeoutError:
            self._timeouts += 1
            raise
        finally:
            self._waiting -= 1

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedin() or self._overflow < self._max_overflow:
            return super()._do_get()
        with self._counted():
            return super()._do_get()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if record.dbapi_connection is not None:
            record.info["returned_at"] = time.monotonic()
        super()._do_return_conn(record)

    def close_idle(self) -> int:
        """Close connections idle for longer than the time-out, oldest first, down to the minimum; return how many."""
        closed = 0
        while True:
            with self._pool.mutex:  # type: ignore[attr-defined]
                queue = self._pool.queue  # type: ignore[attr-defined]
                if len(queue) == 0 or self.checkedin() + self.checkedout() <= self._min_size:
                    return closed
                oldest: ConnectionPoolEntry = queue[0]
                connected = oldest.dbapi_connection is not None
                if connected and time.monotonic() - oldest.info.get("returned_at", 0.0) < self._idle_timeout_s:
                    return closed
                queue.popleft()
            try:
                oldest.close()
            finally:
                self._dec_overflow()
            closed += 1


def start_reaper(pool: PulsePool) -> threading.Thread:
    """Close idle connections in the background for as long as the process lives."""
    interval_s = max(min(pool._idle_timeout_s / 4, 5.0), 0.05)

    def run() -> None:
        while True:
            time.sleep(interval_s)
            pool.close_idle()

    thread = threading.Thread(target=run, name="pool-reaper", daemon=True)
    thread.start()
    return thread
