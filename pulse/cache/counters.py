"""How often the cache helped, by namespace."""

import threading

import msgspec

MAX_NAMESPACES = 100
OTHER = "(other)"


class Counters(msgspec.Struct):
    """Counts since the start or the last reset.

    `hits`: answered without computing, or by the one computation under way; `stale`: answered with an old value;
    `misses`: computed (or, for a bare get, not there); `failures`: computations that raised.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    failures: int = 0

    @property
    def lookups(self) -> int:
        """All answers."""
        return self.hits + self.misses + self.stale

    @property
    def hit_rate(self) -> float:
        """The part of the answers that cost no computation, 0 to 1."""
        return (self.hits + self.stale) / self.lookups if self.lookups else 0.0


class CounterTable:
    """Counters by namespace; past MAX_NAMESPACES the rest count as "(other)"."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, Counters] = {}

    def count(self, namespace: str, name: str) -> None:
        """Add one to a counter of a namespace."""
        with self._lock:
            row = self._rows.get(namespace)
            if row is None:
                if len(self._rows) >= MAX_NAMESPACES:
                    namespace = OTHER
                row = self._rows.setdefault(namespace, Counters())
            setattr(row, name, getattr(row, name) + 1)

    def snapshot(self) -> dict[str, Counters]:
        """A copy of every namespace's counters."""
        with self._lock:
            return {namespace: Counters(*msgspec.structs.astuple(row)) for namespace, row in self._rows.items()}

    def reset(self) -> None:
        """Begin again at zero."""
        with self._lock:
            self._rows.clear()


def total(rows: dict[str, Counters]) -> Counters:
    """The sum over all namespaces."""
    found = Counters()
    for row in rows.values():
        found.hits += row.hits
        found.misses += row.misses
        found.stale += row.stale
        found.failures += row.failures
    return found
