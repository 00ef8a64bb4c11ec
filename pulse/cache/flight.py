"""One computation at a time for each key within a process."""

import threading

from pulse.cache.envelope import Envelope
from pulse.cache.pattern import compile_pattern


class Flight:
    """A computation under way; `landed` is set when `envelope` or `error` is there."""

    __slots__ = ("owner", "landed", "envelope", "error", "is_void")

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.landed = threading.Event()
        self.envelope: Envelope | None = None
        self.error: BaseException | None = None
        self.is_void = False


class Flights:
    """The flights of a process by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Flight] = {}

    def join(self, key: str, instead_of: Flight | None = None) -> tuple[Flight, bool]:
        """The key's flight, and whether the caller leads it.

        `instead_of` is a flight waited for in vain: the first who says so leads its successor.

        Raises: RuntimeError where the caller leads it already: computing a key must not need the key.
        """
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None or flight is instead_of:
                flight = self._under_way[key] = Flight()
                return flight, True
        if flight.owner == threading.get_ident():
            raise RuntimeError(f"computing {key!r} asks the cache for {key!r} itself")
        return flight, False

    def is_under_way(self, key: str) -> bool:
        """Whether the key is being computed in this process."""
        return key in self._under_way

    def land(self, key: str, flight: Flight, envelope: Envelope | None, error: BaseException | None) -> None:
        """End a flight and wake who waits for it."""
        flight.envelope, flight.error = envelope, error
        with self._lock:
            if self._under_way.get(key) is flight:
                del self._under_way[key]
        flight.landed.set()

    def void(self, key: str) -> None:
        """The key was deleted: what is computed now is not kept, and later callers don't wait for it."""
        with self._lock:
            flight = self._under_way.pop(key, None)
            if flight is not None:
                flight.is_void = True

    def void_pattern(self, pattern: str) -> None:
        """The same for every key that a Redis glob matches."""
        accepts = compile_pattern(pattern).fullmatch
        with self._lock:
            keys = [key for key in self._under_way if accepts(key.encode())]
        for key in keys:
            self.void(key)
