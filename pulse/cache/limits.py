"""The cache's sizes and waits, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the cache; the defaults are what the service runs with.

    `socket_timeout_s`: what one request may lose when Redis hangs; the requests after it lose nothing.
    `probe_first_s`, `probe_last_s`: pause before the first and the later questions whether Redis is back.
    `lock_ttl_s`: a computation's lock in Redis ends by itself after this, should its holder die.
    `wait_s`: the longest wait for somebody else's computation before computing as well.
    `stale_s`: how long a value is kept after its ttl, for answers while the database is away.
    `grace_least_s`: a value past its ttl by less than the larger of this and its ttl is served while one caller
    computes the next; older than that, callers wait.
    `renew_share`: the last part of a value's ttl in which a caller has it renewed in the background.
    `memory_entries`, `memory_bytes`: bounds of the in-process side, for each process.
    `value_bytes`: a larger value is handed to the caller and not kept.
    `journal_keys`: keys changed during an outage remembered one by one; more are remembered by namespace.
    """

    socket_timeout_s: float = 0.25
    probe_first_s: float = 0.1
    probe_last_s: float = 1.0
    lock_ttl_s: float = 60.0
    wait_s: float = 10.0
    stale_s: float = 86_400.0
    grace_least_s: float = 60.0
    renew_share: float = 1 / 3
    memory_entries: int = 5_000
    memory_bytes: int = 64 * 1024 * 1024
    value_bytes: int = 4 * 1024 * 1024
    journal_keys: int = 2_000
    redis_connections: int = 1_000
