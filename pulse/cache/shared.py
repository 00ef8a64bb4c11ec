"""The Redis side: Flask-Caching's RedisCache, and what it lacks (patterns, locks that protect a store)."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import uuid4

from flask_caching.backends import RedisCache
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from pulse.cache.envelope import Envelope
from pulse.cache.pattern import compile_pattern

# What Redis not answering, or refusing to work, looks like: down, hung, loading, full, read-only, no permission.
FAILURES: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)

LOCK, GENERATION, PROBE = "pulse-lock:", "pulse-generation:", "pulse-probe:"
GENERATION_TTL_S = 3_600
SCAN_COUNT = 500

# KEYS: lock, generation, key. ARGV: token, lock ms, '1' to take the lock from whoever has it.
CLAIM = """
local won
if ARGV[3] == '1' then won = redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
else won = redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) end
local value = redis.pcall('get', KEYS[3])
if type(value) == 'table' then value = false end
return {won and 1 or 0, redis.call('get', KEYS[2]) or '', value}
"""
# KEYS: lock, generation, key. ARGV: token, generation, blob, seconds. Not stored where the key was deleted meanwhile.
STORE = """
local stored = 0
if (redis.call('get', KEYS[2]) or '') == ARGV[2] then
  redis.call('set', KEYS[3], ARGV[3], 'EX', ARGV[4])
  stored = 1
end
if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
return stored
"""
# KEYS: lock. ARGV: token.
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
# KEYS: lock, generation. ARGV: seconds. A running computation's result is made unwelcome, and nobody waits for it.
VOID = """
if redis.call('del', KEYS[1]) == 1 then
  redis.call('incr', KEYS[2])
  redis.call('expire', KEYS[2], ARGV[1])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to "may I compute this key?".

    `envelope` is what the key holds now; `is_shared` tells Redis's answer from memory's; `token` and `generation` go
    back with the store, and are None where there is no lock in Redis.
    """

    won: bool
    envelope: Envelope | None
    is_shared: bool = False
    token: str | None = None
    generation: bytes | None = None


class SharedCache:
    """One Redis (or Sentinel's master, or cluster) through Flask-Caching; every method may raise FAILURES.

    `build` makes Flask-Caching's backend. It is called again until it succeeds: the client of a cluster connects when
    it is made.
    """

    def __init__(self, build: Callable[[], RedisCache], lock_ttl_s: float) -> None:
        self._build = build
        self._lock_ms = int(lock_ttl_s * 1000)
        self._made: RedisCache | None = None
        self._scripts: dict[str, Any] = {}

    @property
    def backend(self) -> RedisCache:
        """Flask-Caching's backend, made at the first use."""
        if self._made is None:
            made = self._build()
            # A replica lags: what was just deleted on the master must not be read from it.
            made._read_client = made._write_client
            client = made._write_client
            self._scripts = {text: client.register_script(text) for text in (CLAIM, STORE, RELEASE, VOID)}
            self._made = made
        return self._made

    @property
    def client(self) -> Any:
        """The redis-py client under the backend, which Flask-Caching has no public name for."""
        return self.backend._write_client

    def get(self, key: str) -> Envelope | None:
        """The envelope under a key; None also where another program keeps something else there."""
        try:
            found: Envelope | None = self.backend.get(key)
            return found
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None
            raise

    def set(self, key: str, envelope: Envelope, timeout_s: float) -> None:
        """Keep an envelope."""
        self.backend.set(key, envelope, timeout=math.ceil(timeout_s))

    def delete(self, key: str) -> bool:
        """Forget a key and void the computation that is running for it; whether there was one."""
        self._void(key)
        return bool(self.client.unlink(key))

    def delete_pattern(self, pattern: str) -> int:
        """Forget every key a glob matches, on all nodes, in chunks; how many there were."""
        accepts = compile_pattern(pattern).fullmatch
        # Computations first: one that stores before it is voided has left a key for the scan to find.
        for lock in list(self._scan(f"{LOCK}*")):
            key = _key_of(lock)
            if accepts(key):
                self._void(key.decode(errors="replace"))
        removed = 0
        found = self._scan(pattern)
        while keys := list(islice(found, SCAN_COUNT)):
            removed += self.client.unlink(*keys)
        return removed

    def claim(self, key: str, *, force: bool = False) -> Claim:
        """Take the key's lock if it is free (or in any case), and read what the key holds, in one round trip."""
        names = _names(key)
        if names is None:
            return Claim(True, self.get(key), is_shared=True)
        token = uuid4().hex
        arguments = [token, self._lock_ms, int(force)]
        won, generation, blob = self._run(CLAIM, [*names, key], arguments)
        return Claim(bool(won), self.backend.serializer.loads(blob), True, token, generation)

    def store(self, key: str, envelope: Envelope, timeout_s: float, claim: Claim) -> None:
        """Keep a computed envelope, unless its key was deleted since the claim, and give the lock back."""
        names = _names(key)
        if names is None or claim.token is None:
            self.set(key, envelope, timeout_s)
            return
        blob = self.backend.serializer.dumps(envelope)
        arguments = [claim.token, claim.generation, blob, math.ceil(timeout_s)]
        self._run(STORE, [*names, key], arguments)

    def release(self, key: str, claim: Claim) -> None:
        """Give the lock back without a value."""
        names = _names(key)
        if names is not None and claim.token is not None:
            self._run(RELEASE, [names[0]], [claim.token])

    def probe(self) -> None:
        """Write a key that ends by itself: a server that only reads, or is full, is not back yet."""
        self.client.set(f"{PROBE}{uuid4().hex}", b"1", px=1000)

    def info(self) -> dict[str, int]:
        """INFO's figures, summed over the nodes of a cluster."""
        answer = self.client.info()
        nodes = [answer] if "used_memory" in answer else list(answer.values())
        names = (
            "used_memory", "connected_clients", "total_connections_received", "keyspace_hits", "keyspace_misses",
            "evicted_keys", "expired_keys",
        )  # fmt: skip
        figures = {name: sum(int(node.get(name, 0)) for node in nodes) for name in names}
        spaces = [space for node in nodes for name, space in node.items() if re.fullmatch(r"db\d+", str(name))]
        return {**figures, "keys": sum(int(space["keys"]) for space in spaces)}

    def memory_limits(self) -> list[tuple[int, str]]:
        """Each node's limit in bytes (0 is none), and what it does when that is reached."""
        answer = self.client.info("memory")
        nodes = [answer] if "used_memory" in answer else list(answer.values())
        return [(int(node["maxmemory"]), str(node["maxmemory_policy"])) for node in nodes]

    def close(self) -> None:
        """Close the connections."""
        if self._made is not None:
            self.client.close()

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        self.backend  # noqa: B018 - registers the scripts at the first use
        return self._scripts[script](keys=keys, args=arguments)

    def _void(self, key: str) -> None:
        names = _names(key)
        if names is not None:
            self._run(VOID, list(names), [GENERATION_TTL_S])

    def _scan(self, pattern: str) -> Iterator[bytes]:
        return iter(self.client.scan_iter(match=pattern.encode(), count=SCAN_COUNT))


def _names(key: str) -> tuple[str, str] | None:
    """The names of a key's lock and generation, in the key's cluster slot; None where no name can be.

    A cluster hashes what stands between a key's first brace and the next closing one, if anything does, else the
    whole key (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
    """
    _, opened, rest = key.partition("{")
    inside, closed, _ = rest.partition("}")
    if opened and closed and inside:
        return f"{LOCK}{{{inside}}}{key}", f"{GENERATION}{{{inside}}}{key}"
    if "}" in key:
        return None
    return f"{LOCK}{{{key}}}", f"{GENERATION}{{{key}}}"


def _key_of(lock: bytes) -> bytes:
    tag, _, key = lock.removeprefix(LOCK.encode() + b"{").partition(b"}")
    return key or tag
