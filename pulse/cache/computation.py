"""What `wrap` does when the cache has no fresh value: one computes, the others take the old value or wait."""

import logging
import time
from collections.abc import Callable
from math import isfinite
from typing import Any, Literal

import msgspec

from pulse.cache.counters import CounterTable
from pulse.cache.envelope import DAMAGED, Envelope, seal
from pulse.cache.failover import FailoverCache
from pulse.cache.flight import Flight, Flights
from pulse.cache.limits import Limits
from pulse.cache.shared import Claim

log = logging.getLogger("pulse.cache")

# A wait for another process: one poll a process and key, from 10 ms to 100 ms apart.
POLL_FIRST_S, POLL_LAST_S, POLL_GROWTH = 0.01, 0.1, 1.5
# A caller follows at most this many flights, each for at most `wait_s`, and the failure of the second is its own.
ROUNDS, FAILED_ROUNDS = 3, 2


class Entry(msgspec.Struct, frozen=True):
    """A value and where it is from.

    `state` is HIT (kept, or computed by another caller just now), MISS (computed) or STALE (past its ttl); `stored_at`
    and `fresh_until` are epoch seconds.
    """

    value: Any
    state: Literal["HIT", "MISS", "STALE"]
    stored_at: float
    fresh_until: float


class Wish(msgspec.Struct, frozen=True):
    """What one caller of `wrap` wants."""

    key: str
    compute: Callable[[], Any]
    ttl_s: float
    namespace: str
    stale_on: tuple[type[BaseException], ...]
    # Past its ttl, or of an earlier version; None where there is none.
    old: Entry | None
    version: float = 0.0


def open_entry(envelope: Envelope | None, version: float = 0.0) -> Entry | None:
    """The entry of an envelope, HIT or STALE by age and version; None for none and for one damaged in Redis."""
    if envelope is None:
        return None
    try:
        value = envelope.open()
    except DAMAGED:
        return None
    state: Literal["HIT", "STALE"] = (
        "HIT" if envelope.version >= version and envelope.is_fresh(time.time()) else "STALE"
    )
    return Entry(value, state, envelope.stored_at, envelope.fresh_until)


class Computer:
    """Computes wishes, one at a time for each key in this process and, through Redis's locks, in all of them."""

    def __init__(self, store: FailoverCache, flights: Flights, counters: CounterTable, limits: Limits) -> None:
        self._store = store
        self._flights = flights
        self._counters = counters
        self._limits = limits

    def fulfil(self, wish: Wish) -> Entry:
        """Lead the key's computation or follow it.

        Raises: what `compute` raised, for the caller that ran it; a follower tries again once before it shares a
        failure. An exception of `stale_on` gives way to the old value where there is one.
        """
        in_vain: Flight | None = None
        failures: list[Exception] = []
        for _ in range(ROUNDS):
            flight, leads = self._flights.join(wish.key, instead_of=in_vain)
            if leads:
                return self._lead(wish, flight)
            if wish.old is not None and self._is_in_grace(wish.old.fresh_until, wish):
                return self._stale(wish, wish.old)
            if not flight.landed.wait(self._limits.wait_s):
                in_vain = flight
                continue
            entry = open_entry(flight.envelope, wish.version)
            if entry is not None:
                self._counters.count(wish.namespace, "hits" if entry.state == "HIT" else "stale")
                return entry
            if isinstance(flight.error, Exception):
                failures.append(flight.error)
                if wish.old is not None and isinstance(flight.error, wish.stale_on):
                    return self._stale(wish, wish.old)
                if len(failures) >= FAILED_ROUNDS:
                    raise failures[-1]
        return self._compute_unshared(wish)

    def renew(self, wish: Wish) -> None:
        """Compute anew what is still fresh, unless somebody does already; until then the old value is the answer."""
        flight, leads = self._flights.join(wish.key)
        if not leads:
            return
        envelope: Envelope | None = None
        error: BaseException | None = None
        try:
            claim = self._store.claim(wish.key)
            envelope = claim.envelope
            if claim.won:
                if wish.old is not None and envelope is not None and envelope.stored_at > wish.old.stored_at:
                    self._store.release(wish.key, claim)
                else:
                    envelope = self._compute(wish, flight, claim)
        except Exception as failure:
            error = failure
            self._counters.count(wish.namespace, "failures")
            log.info("%s was not renewed: %s", wish.key, failure)
        finally:
            self._flights.land(wish.key, flight, envelope, error)

    def _lead(self, wish: Wish, flight: Flight) -> Entry:
        try:
            envelope, state = self._produce(wish, flight)
            entry = msgspec.structs.replace(_opened(envelope), state=state)
        except BaseException as error:
            self._flights.land(wish.key, flight, None, error)
            self._counters.count(wish.namespace, "failures")
            if wish.old is not None and isinstance(error, wish.stale_on):
                return self._stale(wish, wish.old)
            raise
        self._flights.land(wish.key, flight, envelope, None)
        self._counters.count(wish.namespace, {"HIT": "hits", "MISS": "misses", "STALE": "stale"}[state])
        return entry

    def _produce(self, wish: Wish, flight: Flight) -> tuple[Envelope, Literal["HIT", "MISS", "STALE"]]:
        """The computed envelope, or one that another process has ready."""
        claim = self._store.claim(wish.key)
        give_up_at = time.monotonic() + self._limits.wait_s
        pause_s = POLL_FIRST_S
        while True:
            ready = open_entry(claim.envelope, wish.version)
            if ready is not None and claim.envelope is not None:
                if ready.state == "HIT":
                    if claim.won:
                        self._store.release(wish.key, claim)
                    return claim.envelope, "HIT"
                if not claim.won and self._is_in_grace(ready.fresh_until, wish):
                    return claim.envelope, "STALE"
            if claim.won:
                return self._compute(wish, flight, claim), "MISS"
            time.sleep(pause_s)
            pause_s = min(pause_s * POLL_GROWTH, POLL_LAST_S)
            # The holder may have died: past the wait its lock is taken over. Should it live, both may store.
            claim = self._store.claim(wish.key, force=time.monotonic() >= give_up_at)

    def _compute(self, wish: Wish, flight: Flight, claim: Claim) -> Envelope:
        try:
            # What is computed while nobody knows the version may lack a change: it is kept as of the first one.
            envelope = seal(wish.compute(), wish.ttl_s, wish.version if isfinite(wish.version) else 0.0)
        except BaseException:
            self._store.release(wish.key, claim)
            raise
        if len(bytes(envelope.payload)) > self._limits.value_bytes:
            self._store.release(wish.key, claim)
        else:
            keep_s = wish.ttl_s + self._limits.stale_s
            self._store.store(wish.key, envelope, keep_s, claim, lambda: flight.is_void)
        return envelope

    def _compute_unshared(self, wish: Wish) -> Entry:
        """After waiting in vain: compute beside the others, and leave keeping to them."""
        try:
            entry = _opened(seal(wish.compute(), wish.ttl_s))
        except BaseException as error:
            self._counters.count(wish.namespace, "failures")
            if wish.old is not None and isinstance(error, wish.stale_on):
                return self._stale(wish, wish.old)
            raise
        self._counters.count(wish.namespace, "misses")
        return msgspec.structs.replace(entry, state="MISS")

    def _is_in_grace(self, fresh_until: float, wish: Wish) -> bool:
        return time.time() < fresh_until + max(wish.ttl_s, self._limits.grace_least_s)

    def _stale(self, wish: Wish, old: Entry) -> Entry:
        self._counters.count(wish.namespace, "stale")
        return old


def _opened(envelope: Envelope) -> Entry:
    entry = open_entry(envelope)
    assert entry is not None, "what was sealed here can be opened"
    return entry
