"""Whether Redis is used: opens at the first failure, closes after a successful question in the background."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

log = logging.getLogger("pulse.cache")

HISTORY_LENGTH = 50


class Transition(msgspec.Struct, frozen=True, rename="camel"):
    """One change of side: `state` is "redis" or "memory"; `reason` says why."""

    state: str
    at: datetime
    reason: str


class Breaker:
    """Redis's state for one process.

    `recover()` is called in a background thread while the breaker is open, with growing pauses; it either returns,
    which closes the breaker, or raises one of `failures`. It closes the breaker itself through `close(reason)` when
    that has to happen under its own lock.
    """

    def __init__(
        self, recover: Callable[[], None], failures: tuple[type[Exception], ...], first_s: float, last_s: float
    ) -> None:
        self._recover = recover
        self._failures = failures
        self._first_s, self._last_s = first_s, last_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._prober_pid: int | None = None
        self.is_closed = True
        self.epoch = 0
        self.history: deque[Transition] = deque(maxlen=HISTORY_LENGTH)
        self._note("redis", "start")

    @property
    def since(self) -> datetime:
        """When the present state began."""
        return self.history[-1].at

    def trip(self, error: BaseException) -> None:
        """Open: from now on nobody asks Redis but the prober."""
        with self._lock:
            if self.is_closed:
                self.is_closed = False
                reason = f"{type(error).__name__}: {error}"[:300]
                self._note("memory", reason)
                log.warning("Redis does not answer (%s): the in-process cache takes over", reason)
        self.ensure_prober()

    def close(self, reason: str) -> None:
        """Redis is used again."""
        with self._lock:
            if not self.is_closed:
                away_s = (datetime.now(UTC) - self.since).total_seconds()
                self.is_closed = True
                self._note("redis", reason)
                log.info("Redis is back after %.1f s (%s)", away_s, reason)

    def ensure_prober(self) -> None:
        """Start the prober unless it runs in this process; a fork carries the state but not the thread."""
        if self.is_closed or self._prober_pid == os.getpid():
            return
        with self._lock:
            if self.is_closed or self._prober_pid == os.getpid() or self._stop.is_set():
                return
            self._prober_pid = os.getpid()
            threading.Thread(target=self._probe, name="pulse-cache-prober", daemon=True).start()

    def stop(self) -> None:
        """End the prober for good."""
        self._stop.set()

    def _note(self, state: str, reason: str) -> None:
        self.epoch += 1
        self.history.append(Transition(state, datetime.now(UTC), reason))

    def _probe(self) -> None:
        pause_s = self._first_s
        while not self._stop.wait(pause_s):
            try:
                self._recover()
            except self._failures as error:
                log.debug("Redis is still away: %s", error)
            except Exception:
                log.exception("asking whether Redis is back failed")
            with self._lock:
                if self.is_closed:
                    self._prober_pid = None
                    return
            pause_s = min(pause_s * 2, self._last_s)
        self._prober_pid = None
