"""How many reports a process computes at once, and how answers are computed anew beside the requests."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pulse.errors import Unavailable

log = logging.getLogger("pulse.web")

WAIT_S = 10.0
# How often a renewal that gives way looks whether it may begin.
LOOK_EVERY_S = 0.02


class Slots:
    """Lets `count` computations of a process go on at once; who comes later waits, first come, first served.

    Eight at once on two cores all end after the time of four, and what the cache has waits for their processes, too:
    one after the other most end sooner, and none later. `message` says to who waited in vain what is too much.
    """

    def __init__(self, count: int, message: str) -> None:
        self.count = count
        self._message = message
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a slot, and have it. Raises Unavailable after WAIT_S."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def is_idle(self) -> bool:
        """Tell whether nobody waits."""
        return not self._waiting

    def _enter(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            called = threading.Event()
            self._waiting.append(called)
        try:
            called.wait(WAIT_S)
        except BaseException:  # the wait was broken off from outside
            if not self._give_up(called):
                self._leave()
            raise
        if self._give_up(called):
            raise Unavailable(self._message, retry_after_s=10)

    def _give_up(self, called: threading.Event) -> bool:
        """Wait no longer; tell whether that was in vain, and no slot is to be had."""
        with self._lock:
            if called.is_set():  # at the last moment
                return False
            self._waiting.remove(called)
            return True

    def _leave(self) -> None:
        """Hand the slot to who has waited longest: a free one would go to who comes just now."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Renewals:
    """Answers computed anew in the background: one at a time in a process, and after the requests that compute.

    A renewal waits while requests wait for a slot, but at most `patience_s`: by then its answer's time is over, and
    somebody would have to wait for it.
    """

    def __init__(self, slots: Slots | None = None, patience_s: float = 0.0) -> None:
        self._slots = slots
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._wanted: dict[str, Callable[[], None]] = {}
        self._running = False

    def add(self, key: str, work: Callable[[], None]) -> None:
        """Have `work` done, unless the same key waits for it already."""
        with self._lock:
            if key in self._wanted:
                return
            self._wanted[key] = work
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="renewals", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                key = next(iter(self._wanted), None)
                if key is None:
                    self._running = False
                    return
                work = self._wanted[key]
            self._wait_for_idle_slots()
            try:
                work()
            except Exception:
                log.exception("%s was not renewed", key)
            finally:
                with self._lock:
                    self._wanted.pop(key, None)

    def _wait_for_idle_slots(self) -> None:
        until = time.monotonic() + self._patience_s
        while self._slots is not None and not self._slots.is_idle() and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
