"""The in-process side: Flask-Caching's SimpleCache with bounds that hold."""

import time
from collections import OrderedDict
from typing import Any

from flask import Flask
from flask_caching.backends import SimpleCache

from pulse.cache.envelope import Envelope, EnvelopeSerializer
from pulse.cache.pattern import compile_pattern

# What a key, its tuple and its place in the dict take beside the value's bytes.
ENTRY_OVERHEAD_BYTES = 250


class MemoryCache(SimpleCache):
    """A SimpleCache that is bounded by entries and by bytes, and drops what was used longest ago.

    SimpleCache itself knows a number of entries only, exceeds it, and sorts all of them to drop the one that ends
    first, which is seldom the one least wanted.
    """

    serializer: EnvelopeSerializer = EnvelopeSerializer()  # type: ignore[assignment]  # cachelib types its own default

    def __init__(self, threshold: int, max_bytes: int, default_timeout: int = 300, **options: Any) -> None:
        super().__init__(threshold, default_timeout, **options)
        self._cache: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.evictions = 0

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> "MemoryCache":
        """What Flask-Caching calls: the options of CACHE_OPTIONS, the threshold of CACHE_THRESHOLD."""
        return cls(config["CACHE_THRESHOLD"], *args, **kwargs)

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, key: str) -> Envelope | None:
        """The envelope under a key, which becomes the one used last."""
        with self._lock:
            found = self._cache.get(key)
            if found is None:
                return None
            if found[0] <= time.time():
                self._drop(key)
                return None
            self._cache.move_to_end(key)
        return self.serializer.loads(found[1])

    def set(self, key: str, value: Envelope, timeout: Any = None) -> bool:
        """Keep an envelope for `timeout` seconds; false where it is larger than all the room there is."""
        blob = self.serializer.dumps(value)
        with self._lock:
            self._drop(key)
            size_bytes = _size_bytes(key, blob)
            if size_bytes > self._max_bytes:
                self.evictions += 1
                return False
            self._cache[key] = (time.time() + timeout, blob)
            self.size_bytes += size_bytes
            while len(self._cache) > self._threshold or self.size_bytes > self._max_bytes:
                self._evict()
        return True

    def add(self, key: str, value: Envelope, timeout: Any = None) -> bool:
        """Keep an envelope unless there is one; true where it was kept."""
        with self._lock:
            return not self.has(key) and self.set(key, value, timeout)

    def has(self, key: str) -> bool:
        """Whether there is an entry that has not ended."""
        with self._lock:
            found = self._cache.get(key)
            return found is not None and found[0] > time.time()

    def delete(self, key: str) -> bool:
        """Forget a key; true where there was an entry that had not ended."""
        with self._lock:
            existed = self.has(key)
            self._drop(key)
            return existed

    def delete_pattern(self, pattern: str) -> int:
        """Forget every key that a Redis glob matches; how many there were."""
        accepts = compile_pattern(pattern).fullmatch
        with self._lock:
            return sum(self.delete(key) for key in [key for key in self._cache if accepts(key.encode())])

    def clear(self) -> bool:
        """Forget everything."""
        with self._lock:
            self._cache.clear()
            self.size_bytes = 0
        return True

    def _drop(self, key: str) -> None:
        found = self._cache.pop(key, None)
        if found is not None:
            self.size_bytes -= _size_bytes(key, found[1])

    def _evict(self) -> None:
        key, (ends, _blob) = next(iter(self._cache.items()))
        self._drop(key)
        if ends > time.time():
            self.evictions += 1


def _size_bytes(key: str, blob: bytes) -> int:
    return len(key) + len(blob) + ENTRY_OVERHEAD_BYTES
