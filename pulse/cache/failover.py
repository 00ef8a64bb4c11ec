"""Redis while it answers, the process's own memory while it does not.

The first call that fails is answered by memory at once and opens the breaker; a background prober hands back. What
must not come back with Redis is forgotten there first (see `Journal`), and memory is emptied at the hand-back: other
processes' deletions don't reach it while Redis is in use. What remains open: another process that reached Redis again
earlier may serve an old copy until this one has replayed its journal (at most `probe_last_s`), and a journal dies with
its process, which leaves an old copy until its ttl.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from pulse.cache.breaker import Breaker
from pulse.cache.envelope import Envelope
from pulse.cache.journal import Journal
from pulse.cache.limits import Limits
from pulse.cache.memory import MemoryCache
from pulse.cache.shared import FAILURES, Claim, SharedCache

T = TypeVar("T")

# Rounds of replaying beside the traffic; what came in during the last one is replayed while everyone waits.
REPLAY_ROUNDS = 10


class FailoverCache:
    """One cache of two sides; without `shared` it is the memory side alone."""

    def __init__(self, memory: MemoryCache, shared: SharedCache | None, limits: Limits) -> None:
        self.memory = memory
        self.shared = shared
        self._journal = Journal(limits.journal_keys)
        self._lock = threading.RLock()
        self.breaker = Breaker(self._recover, FAILURES, limits.probe_first_s, limits.probe_last_s)
        if shared is not None:
            # Known before the first request, and off its path.
            self._on_redis(shared.probe)

    @property
    def is_redis_available(self) -> bool:
        """Whether Redis is configured and in use."""
        if self.shared is None:
            return False
        self.breaker.ensure_prober()
        return self.breaker.is_closed

    def get(self, key: str) -> Envelope | None:
        """The envelope under a key, fresh or not."""
        if self.shared is not None and self.is_redis_available:
            shared = self.shared
            answered, envelope = self._on_redis(lambda: shared.get(key))
            if answered:
                return envelope
        return self.memory.get(key)

    def set(self, key: str, envelope: Envelope, timeout_s: float) -> None:
        """Keep an envelope for `timeout_s`."""
        self._change(
            lambda shared: shared.set(key, envelope, timeout_s),
            lambda: self.memory.set(key, envelope, timeout_s),
            lambda: self._journal.note_key(key),
        )

    def delete(self, key: str) -> bool:
        """Forget a key; whether there was one."""
        return self._change(
            lambda shared: shared.delete(key), lambda: self.memory.delete(key), lambda: self._journal.note_key(key)
        )

    def delete_pattern(self, pattern: str) -> int:
        """Forget every key a Redis glob matches; how many there were."""
        return self._change(
            lambda shared: shared.delete_pattern(pattern),
            lambda: self.memory.delete_pattern(pattern),
            lambda: self._journal.note_pattern(pattern),
        )

    def claim(self, key: str, *, force: bool = False) -> Claim:
        """Ask to compute a key; memory always says yes, since one process computes a key once anyway."""
        if self.shared is not None and self.is_redis_available:
            shared = self.shared
            answered, claim = self._on_redis(lambda: shared.claim(key, force=force))
            if answered and claim is not None:
                return claim
        return Claim(True, self.memory.get(key))

    def store(
        self, key: str, envelope: Envelope, timeout_s: float, claim: Claim, is_void: Callable[[], bool]
    ) -> None:
        """Keep a computed envelope unless the key was deleted since the claim.

        `is_void` says so for this process; Redis itself for the others. What was claimed on the memory side is not
        kept once Redis is back, for a deletion may have gone by.
        """
        if self.shared is not None and self.is_redis_available:
            if not claim.is_shared or is_void():
                return
            shared = self.shared
            if self._on_redis(lambda: shared.store(key, envelope, timeout_s, claim))[0]:
                return
        with self._lock:
            # Under the lock that a deletion takes after it has declared the computation void.
            if self.is_redis_available or is_void():
                return
            if self.shared is not None:
                self._journal.note_key(key)
            self.memory.set(key, envelope, timeout_s)

    def release(self, key: str, claim: Claim) -> None:
        """Give a claim back without a value."""
        if self.shared is not None and claim.token is not None and self.is_redis_available:
            shared = self.shared
            self._on_redis(lambda: shared.release(key, claim))

    def info(self) -> dict[str, int] | None:
        """Redis's own figures, or None while it is away."""
        if self.shared is None or not self.is_redis_available:
            return None
        return self._on_redis(self.shared.info)[1]

    def close(self) -> None:
        """End the prober and the connections."""
        self.breaker.stop()
        if self.shared is not None:
            self.shared.close()

    def _on_redis(self, ask: Callable[[], T]) -> tuple[bool, T | None]:
        """Whether Redis answered, and what."""
        try:
            return True, ask()
        except FAILURES as error:
            self.breaker.trip(error)
            return False, None

    def _change(
        self, on_redis: Callable[[SharedCache], T], on_memory: Callable[[], T], note: Callable[[], None]
    ) -> T:
        """Change the side in use; a change that memory takes is noted for Redis's return.

        A failed change is noted as well: Redis may have done it, or may yet.
        """
        shared = self.shared
        while shared is not None:
            if self.is_redis_available:
                answered, result = self._on_redis(lambda: on_redis(shared))
                if answered:
                    return result  # type: ignore[return-value]
            with self._lock:
                if not self.breaker.is_closed:
                    note()
                    return on_memory()
        with self._lock:
            return on_memory()

    def _recover(self) -> None:
        """Ask Redis, replay the journal, empty memory, hand back; raises FAILURES while Redis is away."""
        assert self.shared is not None
        self.shared.probe()
        replayed = 0
        for _ in range(REPLAY_ROUNDS):
            if not self._journal:
                break
            replayed += self._replay()
        with self._lock:
            replayed += self._replay()
            self.memory.clear()
            self.breaker.close(f"answers again; {replayed} changes replayed")

    def _replay(self) -> int:
        """Forget in Redis what the journal names."""
        assert self.shared is not None
        with self._lock:
            keys, patterns = self._journal.take()
        try:
            for pattern in patterns:
                self.shared.delete_pattern(pattern)
            for key in keys:
                self.shared.delete(key)
        except BaseException:
            with self._lock:
                self._journal.put_back(keys, patterns)
            raise
        return len(keys) + len(patterns)
