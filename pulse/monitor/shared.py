"""All processes as one: each publishes its figures, whoever is asked adds them up, a reset reaches all at once."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from pulse.config import Config
from pulse.monitor import files
from pulse.monitor.board import Board
from pulse.monitor.recorder import Recorder, gauges, recorder
from pulse.monitor.service import ServiceStats, add_up
from pulse.monitor.snapshot import CacheSide, Snapshot
from pulse.storage import beside
from pulse.storage.pool import PoolStatus

log = logging.getLogger("pulse.monitor")

PUBLISH_EVERY_S = 0.5
HEARTBEAT_S = 5.0
TICK_S = 0.05
# A wait this much longer than asked for means that something kept the event loop (or the interpreter) to itself.
BLOCKED_MS = 5.0

POOL_USED = "pool/used_percent"
POOL_WAITING = "pool/waiting"
POOL_TIMEOUTS = "pool/timeouts"
HUB_BLOCK = "hub_block_ms"
FOLD_LAG = "fold_lag_s"
CACHE = "cache/"

_CACHE_COUNTERS = ("hits", "misses", "stale", "failures")

_pools: dict[str, Callable[[], PoolStatus]] = {}
_caches: list[Callable[[], Mapping[str, Mapping[str, int]]]] = []
_cache_sides: list[Callable[[], list[CacheSide]]] = []
_gauge_sources: list[Callable[[], Mapping[str, float]]] = []


def register_pool(name: str, status: Callable[[], PoolStatus]) -> None:
    """Show a pool of this process under `name`; a later one of the same name takes its place."""
    _pools[name] = status


def register_cache(
    counters: Callable[[], Mapping[str, Mapping[str, int]]], sides: Callable[[], list[CacheSide]] | None = None
) -> None:
    """Show the cache of this process.

    `counters`: by namespace, `hits`, `misses`, `stale` and `failures` ever growing. `sides`: how it went over from
    Redis to memory and back, oldest first; empty without Redis.
    """
    _caches[:] = [counters]
    _cache_sides[:] = [sides] if sides else []


def register_gauges(source: Callable[[], Mapping[str, float]]) -> None:
    """Show present values that are asked for when they are published, which costs nothing in between."""
    _gauge_sources.append(source)


class Publisher:
    """Publishes one process's figures in `folder` every half second in which something happened."""

    def __init__(self, source: Recorder, folder: Path, role: str) -> None:
        self._source = source
        self._folder = folder
        self._role = role
        self._file = files.OwnFile(folder)
        self.started_at = time.time()
        self._pid = os.getpid()
        self._published: tuple[int, int] = (-1, -1)
        self._published_at = 0.0
        self._cache_seen: dict[tuple[str, str], int] = {}
        self._gave_up_seen: dict[str, int] = {}
        self._gave_up_before: dict[str, int] = {}
        self._read_generation = -1
        self._stopped = False
        self._lock = threading.Lock()
        source.use_board(Board(folder))
        self._read_counters()

    def start(self) -> None:
        """Publish in the background until the process ends, and once more then."""
        threading.Thread(target=self._run, name="monitor-publisher", daemon=True).start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Publish for the last time."""
        if self._stopped or os.getpid() != self._pid:
            return
        self._stopped = True
        try:
            self.publish()
        except OSError:
            log.exception("the last figures could not be written")
        self._file.close()

    def let_go(self) -> None:
        """Drop what belongs to the parent of a forked child."""
        self._stopped = True
        self._file.close()

    def _run(self) -> None:
        next_at = time.monotonic()
        while not self._stopped:
            slept_from = time.monotonic()
            time.sleep(TICK_S)
            now = time.monotonic()
            late_ms = (now - slept_from - TICK_S) * 1000
            self._source.tick()
            if late_ms > BLOCKED_MS:
                self._source.sample(HUB_BLOCK, late_ms)
            if now < next_at or self._stopped:
                continue
            next_at = now + PUBLISH_EVERY_S
            try:
                self.sample()
                self._publish_if_due(now)
            except Exception:
                # A full disk or a failing callable must not end the figures for good.
                log.exception("the figures could not be published")
                next_at = now + HEARTBEAT_S

    def _publish_if_due(self, now: float) -> None:
        state = (self._source.board_number(), self._source.changes)
        heartbeat = now - self._published_at >= HEARTBEAT_S
        if state != self._published or heartbeat:
            self.publish()
            self._published, self._published_at = state, now
        if heartbeat:
            files.fold_ended(self._folder, state[0])

    def publish(self) -> None:
        """Write this process's figures now."""
        self._read_counters()
        data = self._source.encoded(self._role, self.started_at, **self._present())
        with self._lock:
            # Renaming waits for the disk that PostgreSQL writes to, 33 ms under load; a process at its end has no loop.
            if self._stopped:
                self._file.write_encoded(data)
            else:
                beside.run(self._file.write_encoded, data)

    def sample(self) -> None:
        """Measure what is not an event: pools, the fold's lag and cache counters."""
        pools = [status() for status in list(_pools.values())]
        if pools and self._role == "web":
            # The fullest pool: an idle one beside it would hide that requests wait.
            self._source.sample(POOL_USED, max(100.0 * pool.in_use / pool.max for pool in pools))
            self._source.sample(POOL_WAITING, float(sum(pool.waiting for pool in pools)))
        lag_s = gauges().get(FOLD_LAG)
        if lag_s is not None:
            self._source.sample(FOLD_LAG, lag_s)
        self._read_counters()

    def _read_counters(self) -> None:
        """Record how much the counters of cache and pools have grown; growth from before a reset is left out."""
        grown: list[tuple[str, int]] = []
        with self._lock:
            generation = self._source.board_number()
            counted = generation == self._read_generation
            self._read_generation = generation
            for counters in _caches:
                for namespace, row in counters().items():
                    for name in _CACHE_COUNTERS:
                        value = row.get(name, 0)
                        before = self._cache_seen.get((namespace, name), 0)
                        self._cache_seen[namespace, name] = value
                        # Less than before: the cache's own counters were set to nought meanwhile.
                        grown.append((f"{CACHE}{namespace}/{name}", value - before if value >= before else value))
            for name, status in list(_pools.items()):
                value = status().timeouts
                before = self._gave_up_seen.get(name, 0)
                self._gave_up_seen[name] = value
                grown.append((POOL_TIMEOUTS, value - before if value >= before else value))
                if not counted:
                    self._gave_up_before[name] = value
        for name, times in grown:
            if times and counted:
                self._source.count(name, times)

    def snapshot(self) -> Snapshot:
        """This process's figures as they stand, with its pools, gauges and memory."""
        self._read_counters()
        return self._source.snapshot(self._role, self.started_at, **self._present())

    def _present(self) -> dict[str, Any]:
        """The moment, with the pools' time-outs counted from the last reset on."""
        present = _present()
        for name, pool in present["pools"].items():
            pool["timeouts"] = max(pool["timeouts"] - self._gave_up_before.get(name, 0), 0)
        return present

    def collect(self, *, alone: bool = False) -> ServiceStats:
        """The figures of all processes, this one's as they stand; with `alone` without those of other nodes."""
        own = self.snapshot()
        return files.read_service(self._folder, own.generation, own, self._file.name, alone=alone)


def _present() -> dict[str, Any]:
    """What a snapshot says of the moment: pools, gauges, the cache's side, memory."""
    values = gauges()
    for source in _gauge_sources:
        values |= source()
    return {
        "pools": {name: asdict(status()) for name, status in list(_pools.items())},
        "gauges": values,
        "cache_sides": [side for sides in _cache_sides for side in sides()],
        "memory": memory(),
    }


def memory() -> dict[str, int]:
    """This process's memory in bytes: resident and virtual."""
    used = psutil.Process().memory_info()
    return {"rss": used.rss, "vms": used.vms}


_publisher: Publisher | None = None


def start_publishing(config: Config, role: str = "web") -> Publisher:
    """Publish this process's figures under the data folder; call it after the fork. `role` is `web` or `worker`."""
    global _publisher
    if _publisher is not None:
        _publisher.stop()
    _publisher = Publisher(recorder, files.folder_of(config.data_dir), role)
    _publisher.start()
    return _publisher


def collect(*, alone: bool = False) -> ServiceStats:
    """The figures of the whole service, or of this process alone while it publishes nothing.

    With `alone` those of this node, without the other nodes on the same database.
    """
    if _publisher is not None:
        return _publisher.collect(alone=alone)
    return add_up([recorder.snapshot("local", time.time(), **_present())], time.time())


def reset() -> None:
    """Set every figure of every process to nought."""
    recorder.board.bump()


def clear(data_dir: Path) -> None:
    """Forget the last run of the service; the supervisor calls it before it starts the processes."""
    files.clear(files.folder_of(data_dir))


def _forget_parent() -> None:
    global _publisher
    if _publisher is not None:
        _publisher.let_go()
        _publisher = None


os.register_at_fork(after_in_child=_forget_parent)
