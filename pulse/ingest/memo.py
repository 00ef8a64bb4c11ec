"""Bounded caches for pure functions of one request field."""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """The results of a one-argument function: `memo[key]` computes on a miss.

    A hit is one dict lookup (40 ns), which is why this is no `lru_cache` with its lock and reordering. When full, the
    oldest eighth goes at once: a flood of distinct keys costs what the function costs and never more memory.
    """

    __slots__ = ("_compute", "_size")

    def __init__(self, compute: Callable[[K], V], *, size: int) -> None:
        super().__init__()
        self._compute = compute
        self._size = size

    def __missing__(self, key: K) -> V:
        value = self._compute(key)
        if len(self) >= self._size:
            for old in list(islice(self, max(1, self._size // 8))):
                self.pop(old, None)
        self[key] = value
        return value
