"""Bounded caches for pure functions of one request field."""

from collections.abc import Callable
from typing import TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")

_NOTHING = object()


class Memo(dict[K, V]):
    """The results of a one-argument function: `memo[key]` computes on a miss.

    A hit is one dict lookup (40 ns), which is why this is no `lru_cache` with its lock and reordering. There are two
    generations of `size` results in all: when the younger is full the older goes at once, and what is asked for again
    meanwhile is young again. A flood of distinct keys costs what the function costs and never more memory.
    """

    __slots__ = ("_compute", "_half", "_older")

    def __init__(self, compute: Callable[[K], V], *, size: int) -> None:
        super().__init__()
        self._compute = compute
        self._half = max(size // 2, 1)
        self._older: dict[K, V] = {}

    def __missing__(self, key: K) -> V:
        value = self._older.get(key, cast("V", _NOTHING))
        if value is _NOTHING:
            value = self._compute(key)
        if len(self) >= self._half:
            self._older = dict(self)
            self.clear()
        self[key] = value
        return value
