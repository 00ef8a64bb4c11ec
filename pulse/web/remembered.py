"""What a web process remembers of the database, so that most requests need not ask it: kept up to date meanwhile."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from pulse.errors import PulseError, Unavailable
from pulse.web.background import Background

log = logging.getLogger("pulse.web")

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# How long it takes at most until a key revoked, or a project changed, through another process is noticed.
REMEMBER_S = 2.0
# What is in use is asked for anew so often, all of it in one statement; what nobody used for so long is let go.
REFRESH_EVERY_S = 1.0
IN_USE_S = 600.0
# How long a request waits for another one's first question of the same.
WAIT_S = 5.0
# At most so many at a time, those used last: the others are asked for by the requests that need them.
REFRESHED = 1_000


class _Held(Generic[V]):
    __slots__ = ("value", "until", "used_at")

    def __init__(self, value: V, until: float, used_at: float) -> None:
        self.value = value
        self.until = until
        self.used_at = used_at


class Remembered(Generic[K, V]):
    """Answers of the database kept for REMEMBER_S, and for longer while the database is away; at most `size`.

    `load` asks for one, and raises what a request is to be answered with; `load_all` asks for several and leaves out
    those that are gone. What `generation` returns is another thing when all must be forgotten.
    """

    def __init__(
        self,
        load: Callable[[K], V],
        load_all: Callable[[Sequence[K]], dict[K, V]],
        generation: Callable[[], bytes] = lambda: b"",
        size: int = 10_000,
    ) -> None:
        self._load = load
        self._load_all = load_all
        self._read_generation = generation
        self._generation = generation()
        self._size = size
        self._held: dict[K, _Held[V]] = {}
        self._asking: dict[K, threading.Event] = {}
        self._refreshing: frozenset[K] = frozenset()
        self.on_use: Callable[[], None] = lambda: None

    def get(self, key: K) -> V:
        """Return the answer for `key`. Raises what loading raises, unless an old answer can stand in."""
        generation = self._read_generation()
        if generation != self._generation:
            self._generation, self._held = generation, {}  # what is on its way now is not remembered
        memory, now = self._held, time.monotonic()
        held = memory.get(key)
        if held is not None:
            held.used_at = now
            # Past its time while it is being asked for: the database takes its time, or is away.
            if held.until > now or key in self._refreshing:
                return held.value
            # Whoever comes first asks; the others go on with what is known, or hundreds would ask at once.
            held.until = now + REMEMBER_S
            return self._ask(key, held)
        mine = threading.Event()
        other = self._asking.setdefault(key, mine)
        if other is not mine:
            other.wait(WAIT_S)
            held = self._held.get(key)
            return self._ask(key, None) if held is None else held.value
        try:
            return self._ask(key, None)
        finally:
            self._asking.pop(key, None)
            mine.set()

    def knows(self, key: K) -> bool:
        """Tell whether there is an answer, however old."""
        return key in self._held

    def _ask(self, key: K, held: _Held[V] | None) -> V:
        memory, begun_at = self._held, time.monotonic()
        # An answer holds from when it was asked for: it may be on its way for long.
        until = begun_at + REMEMBER_S
        try:
            value = self._load(key)
        except Unavailable:
            if held is None:
                raise
            value, until = held.value, time.monotonic() + REMEMBER_S
        except PulseError:
            memory.pop(key, None)
            raise
        if len(memory) >= self._size:
            memory.clear()
        if memory is self._held:  # else forgotten meanwhile
            memory[key] = _Held(value, until, begun_at)
            self.on_use()
        return value

    def refresh(self) -> bool:
        """Ask anew for what is in use; tell whether anything is."""
        memory, now = self._held, time.monotonic()
        # Not for what was not there: whoever tries out keys would keep the others from being asked for.
        keys = [
            key for key, held in list(memory.items()) if now - held.used_at < IN_USE_S and held.value is not None
        ]
        if not keys:
            return False
        if len(keys) > REFRESHED:
            keys = sorted(keys, key=lambda key: memory[key].used_at)[-REFRESHED:]
        self._refreshing = frozenset(keys)
        try:
            found = self._load_all(keys)
        except Unavailable:
            until = time.monotonic() + REMEMBER_S  # it may have taken long to find out
            for key in keys:
                if key in memory:
                    memory[key].until = until
            return True
        finally:
            self._refreshing = frozenset()
        for key in keys:
            held = memory.get(key)
            if held is None:
                continue
            if key in found:
                held.value, held.until = found[key], now + REMEMBER_S
            else:
                del memory[key]
        return True


class Refresher:
    """Keeps memories up to date in the background while they are in use, until `stopping` is set."""

    def __init__(self, memories: Sequence[Remembered[Any, Any]], stopping: threading.Event) -> None:
        self._memories = memories
        self._stopping = stopping
        background = Background("refresher", self._run, stopping)
        for memory in memories:
            memory.on_use = background.begin

    def _run(self) -> None:
        while not self._stopping.wait(REFRESH_EVERY_S):
            in_use = [self._refresh(memory) for memory in self._memories]
            if not any(in_use):
                break

    def _refresh(self, memory: Remembered[Any, Any]) -> bool:
        try:
            return memory.refresh()
        except DBAPIError as error:
            log.warning("what is remembered could not be brought up to date: %s", error.orig)
        except Exception:
            log.exception("what is remembered could not be brought up to date")
        return True
