"""Work beside the requests of a web process, begun by the first of them that needs it."""

import threading
from collections.abc import Callable

from pulse.monitor import recorder


class Background:
    """Runs `work` in a thread of its own, at most one at a time, and none once `stopping` is set."""

    def __init__(self, name: str, work: Callable[[], None], stopping: threading.Event) -> None:
        self._name = name
        self._work = work
        self._stopping = stopping
        self._lock = threading.Lock()
        self._is_running = False

    def begin(self) -> None:
        """See to it that the work is under way."""
        if self._is_running:
            return
        with self._lock:
            if self._is_running or self._stopping.is_set():
                return
            self._is_running = True
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        recorder.clear_route()  # it is begun by a request, but not part of it
        try:
            self._work()
        finally:
            with self._lock:
                self._is_running = False
