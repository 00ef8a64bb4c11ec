"""The cache as the rest of the program uses it."""

import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_caching import Cache
from flask_caching.backends import RedisCache

from pulse.cache.address import flask_caching_settings
from pulse.cache.breaker import Transition
from pulse.cache.computation import Computer, Entry, Wish, open_entry
from pulse.cache.counters import Counters, CounterTable, total
from pulse.cache.envelope import EnvelopeSerializer, seal
from pulse.cache.failover import FailoverCache
from pulse.cache.flight import Flights
from pulse.cache.limits import Limits
from pulse.cache.memory import MemoryCache
from pulse.cache.shared import SharedCache
from pulse.config import Config

MAX_KEY_BYTES = 1_024


def inspect_redis(url: str) -> list[tuple[int, str]]:
    """Write to the Redis of a URL; return each node's limit of memory in bytes, and its policy.

    Raises: `pulse.cache.shared.FAILURES`; ValueError for a URL that can't be read.
    """
    limits = Limits()
    settings = flask_caching_settings(url, limits)
    shared = SharedCache(lambda: _flask_caching_backend(Flask("pulse.cache"), settings), limits.lock_ttl_s)
    try:
        shared.probe()
        return shared.memory_limits()
    finally:
        shared.close()


class CacheService:
    """Values under keys that read `namespace:entity:id:params`, on Redis or in memory.

    Works inside and outside an app context, for threads and greenlets. A value comes back as plain data, whether it
    was just computed or kept (see `pulse.cache.envelope.seal`). Times to live are seconds.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._counters = CounterTable()
        self._flights = Flights()
        self._open: FailoverCache | None = None
        # How often values were replaced or forgotten through this process: what was taken from here may be out of date.
        self.deletions = 0

    def init_app(self, app: Flask | None, config: Config) -> None:
        """Build the sides through Flask-Caching; again for another app, which closes the first one's.

        `app` may be None in a process that serves no requests. Redis may be away: memory starts then.

        Raises: ValueError for a Redis URL that can't be read.
        """
        app = app or Flask("pulse.cache")
        limits = self._limits
        memory: MemoryCache = _flask_caching_backend(
            app,
            {
                "CACHE_TYPE": "pulse.cache.memory.MemoryCache",
                "CACHE_THRESHOLD": limits.memory_entries,
                "CACHE_OPTIONS": {"max_bytes": limits.memory_bytes},
            },
        )
        shared = None
        if config.redis_url:
            url = config.redis_url
            flask_caching_settings(url, limits)  # a bad URL fails here, not in the prober

            def build() -> RedisCache:
                found: RedisCache = _flask_caching_backend(app, flask_caching_settings(url, limits))
                return found

            shared = SharedCache(build, limits.lock_ttl_s)
        self.close()
        self._open = FailoverCache(memory, shared, limits)
        self._flights = Flights()
        self._counters.reset()
        self._computer = Computer(self._open, self._flights, self._counters, limits)

    def wrap(
        self,
        key: str,
        compute: Callable[[], Any],
        ttl: float = 300,
        namespace: str | None = None,
        stale_on: tuple[type[BaseException], ...] = (),
    ) -> Any:
        """The key's value, computed if there is no fresh one; one computation at a time per key.

        While one caller computes, the others get the old value if it is not older than twice its ttl, or wait.

        Raises: what `compute` raises, which is never kept; TypeError for a value that can't be kept.
        """
        return self.wrap_entry(key, compute, ttl, namespace, stale_on).value

    def wrap_entry(
        self,
        key: str,
        compute: Callable[[], Any],
        ttl: float = 300,
        namespace: str | None = None,
        stale_on: tuple[type[BaseException], ...] = (),
        version: float = 0.0,
        in_background: Callable[[Callable[[], None]], None] | None = None,
    ) -> Entry:
        """As `wrap`, with the state and times of the value.

        `stale_on`: exceptions of `compute` in whose place the old value is the answer, up to `Limits.stale_s` after
        its ttl. `namespace` is what the counters count it under, the key's own if not given. A value kept for a smaller
        `version` counts as past its ttl: what a value is made of may have a number that grows with each change.
        An infinite one says that nobody knows it: all that is kept counts as past its ttl.
        `in_background` runs what it is given beside the caller: a value that is asked for shortly before its ttl is
        over is renewed there, so that one in demand is always fresh and nobody waits for it.
        """
        _check(key, ttl)
        namespace = namespace or _namespace(key)
        old = open_entry(self._store.get(key), version)
        wish = Wish(key, compute, ttl, namespace, stale_on, old, version)
        if old is None or old.state != "HIT":
            return self._computer.fulfil(wish)
        self._counters.count(namespace, "hits")
        ends_soon = time.time() > self.renewed_from(old)
        if ends_soon and in_background is not None and not self._flights.is_under_way(key):
            in_background(lambda: self._computer.renew(wish))
        return old

    def renewed_from(self, entry: Entry) -> float:
        """Since when, in epoch seconds, an entry that is asked for is renewed in the background."""
        return entry.fresh_until - (entry.fresh_until - entry.stored_at) * self._limits.renew_share

    def count_hit(self, namespace: str) -> None:
        """Count an answer that a caller had from here a moment ago and has given once more."""
        self._counters.count(namespace, "hits")

    def get(self, key: str, default: Any = None) -> Any:
        """The fresh value under a key, or `default`."""
        _check(key)
        entry = open_entry(self._store.get(key))
        if entry is None or entry.state != "HIT":
            self._counters.count(_namespace(key), "misses")
            return default
        self._counters.count(_namespace(key), "hits")
        return entry.value

    def set(self, key: str, value: Any, ttl: float = 300) -> None:
        """Keep a value; a computation under way for the key is not kept over it.

        Raises: TypeError for a value that can't be kept; ValueError for one that is too large.
        """
        _check(key, ttl)
        envelope = seal(value, ttl)
        size_bytes = len(bytes(envelope.payload))
        if size_bytes > self._limits.value_bytes:
            raise ValueError(f"{key!r}: {size_bytes} bytes; a cached value may have {self._limits.value_bytes}")
        self.deletions += 1
        self._flights.void(key)
        self._store.set(key, envelope, ttl)

    def delete(self, key: str) -> bool:
        """Forget a key, and what is being computed for it now; whether there was one."""
        _check(key)
        self.deletions += 1
        self._flights.void(key)
        return self._store.delete(key)

    def delete_pattern(self, pattern: str) -> int:
        """Forget every key that a Redis glob (`*`, `?`, `[a-c]`, backslash) matches; how many there were."""
        _check(pattern)
        self.deletions += 1
        self._flights.void_pattern(pattern)
        return self._store.delete_pattern(pattern)

    def counters(self) -> dict[str, Counters]:
        """This process's counters by namespace."""
        return self._counters.snapshot()

    def sizes(self) -> dict[str, float]:
        """What this process's memory side holds: keys, bytes, and how many values had to go."""
        memory = self._store.memory
        return {
            "cache_keys": float(len(memory)),
            "cache_bytes": float(memory.size_bytes),
            "cache_evictions": float(memory.evictions),
        }

    def transitions(self) -> list[Transition]:
        """How this process's cache went over from Redis to memory and back, oldest first; empty without Redis."""
        store = self._store
        return list(store.breaker.history) if store.shared is not None else []

    def reset_stats(self) -> None:
        """Counters and evictions begin again; the history of failovers stays."""
        self._counters.reset()
        self._store.memory.evictions = 0

    def get_stats(self) -> dict[str, Any]:
        """This process's figures, as the performance API shows them; asks Redis for its own."""
        store = self._store
        rows = self._counters.snapshot()
        everything = total(rows)
        info = store.info()
        breaker = store.breaker
        return {
            "isRedisAvailable": store.is_redis_available,
            "memoryCacheSize": len(store.memory),
            "memoryCacheBytes": store.memory.size_bytes,
            "evictions": store.memory.evictions,
            "hitRate": _percentage(everything.hit_rate),
            "hits": everything.hits,
            "misses": everything.misses,
            "stale": everything.stale,
            "failures": everything.failures,
            "byNamespace": {name: _figures(row) for name, row in sorted(rows.items())},
            "redisInfo": None if info is None else _redis_info(info),
            "failover": {
                "state": "redis" if store.is_redis_available else "memory",
                "since": breaker.since.isoformat(),
                "history": [
                    {"state": item.state, "at": item.at.isoformat(), "reason": item.reason}
                    for item in self.transitions()
                ],
            },
        }

    def close(self) -> None:
        """End the background work and the connections."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _store(self) -> FailoverCache:
        if self._open is None:
            raise RuntimeError("the cache is used before cache.init_app(app, config)")
        return self._open


def _flask_caching_backend(app: Flask, settings: dict[str, Any]) -> Any:
    extension = Cache(with_jinja2_ext=False)
    extension.init_app(app, {"CACHE_KEY_PREFIX": "", "CACHE_SERIALIZER": EnvelopeSerializer(), **settings})
    return app.extensions["cache"][extension]


def _check(key: str, ttl: float = 1) -> None:
    if not isinstance(key, str) or not key:
        raise TypeError(f"a cache key is text that is not empty, not {key!r}")
    # A character is at most four bytes: short keys, which is all of them, need no encoding.
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"a cache key may have {MAX_KEY_BYTES} bytes: {key[:80]!r}…")
    if not ttl > 0:
        raise ValueError(f"{key!r}: a ttl is more than 0 seconds, not {ttl!r}")


def _namespace(key: str) -> str:
    return key.partition(":")[0]


def _percentage(part: float) -> str:
    return f"{part * 100:.2f}%"


def _figures(row: Counters) -> dict[str, Any]:
    return {
        "hits": row.hits,
        "misses": row.misses,
        "stale": row.stale,
        "failures": row.failures,
        "hitRate": _percentage(row.hit_rate),
    }


def _redis_info(info: dict[str, int]) -> dict[str, Any]:
    hits, misses = info["keyspace_hits"], info["keyspace_misses"]
    return {
        "usedMemory": f"{info['used_memory'] / 1024 / 1024:.2f} MB",
        "connectedClients": info["connected_clients"],
        "totalConnections": info["total_connections_received"],
        "hitRate": _percentage(hits / (hits + misses) if hits + misses else 0.0),
        "keys": info["keys"],
        "evictedKeys": info["evicted_keys"],
        "expiredKeys": info["expired_keys"],
    }
