"""The background worker: a table of jobs, run by one leader."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.ingest import batch as batches
from pulse.ingest.local_copy import Keeper, LocalCopy, changes_board
from pulse.ingest.spool import Spool
from pulse.ingest.visitor import SaltStore
from pulse.monitor import alerts, availability, delivery, files, plans, recorder, samples, shared, trends
from pulse.rollup import erasure, fold, goals, heads, packing, pruning, removal, requests, spans
from pulse.rollup.pace import BEHIND_S, Pacer
from pulse.storage import changes, scheduling, schema
from pulse.storage.scheduling import Standing
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.jobs")
UPKEEP = load_queries("upkeep")

_LEADER_LOCK = 7204461150981880  # schema.sql and fold.sql lock others
FOLD_EVERY_S = 0.25
FOLD_EVENTS = 30_000


@dataclass(frozen=True, slots=True)
class Job:
    """A function run every `every_s` seconds; what it raises is logged and it is run again.

    Jobs of one lane run one after the other; a slow one keeps no other lane waiting. One `on_every_node` has to do with
    this node's own folder: workers that stand by do it, too.
    """

    name: str
    function: Callable[[], object]
    every_s: float
    lane: str = "upkeep"
    on_every_node: bool = False


def list_jobs(engine: Engine, config: Config, standing: Standing) -> list[Job]:
    """Return the table of jobs, which the processes of `standing` do."""
    spool = Spool(config.data_dir / "spool")
    salts = SaltStore(engine)
    copy = Keeper(engine, LocalCopy(config.data_dir, engine.url), changes_board(config.data_dir))
    pacer = Pacer()
    keeper = trends.TrendKeeper()
    book = plans.PlanBook(files.folder_of(config.data_dir))
    here = config.database_url is None  # PostgreSQL runs on this host
    return [
        *([Job("vacuum", lambda: lower_vacuum_priority(engine), 0.5, "vacuum")] if here else []),
        Job("fold", lambda: fold_all(engine, pacer, standing), FOLD_EVERY_S, "fold"),
        Job("replay", lambda: spool.replay(lambda batch: store_spooled(engine, batch)), 1.0, "replay", True),
        Job("local-copy", copy.keep, 1.0, "local-copy", True),
        Job("alerts", lambda: delivery.run(config), 5.0, "watch"),
        Job("history", lambda: keep_history(engine, config), 10.0, "history"),
        Job("trends", lambda: keeper.keep(engine), 60.0, "history"),
        Job("plans", lambda: book.make_missing(engine, plans.list_slow(shared.collect())), 30.0, "history"),
        Job("prune-history", lambda: (samples.prune(engine), trends.prune(engine)), 3600.0),
        Job("goals", lambda: goals.count_all(engine), 2.0),
        Job("erasures", lambda: erasure.run_erasures(engine, spool.holds), 2.0),
        Job("forget-visitors", lambda: erasure.forget_visitors(engine), 3600.0),
        Job("rebuilds", lambda: requests.run_requests(engine), 2.0),
        Job("prune-live", lambda: pruning.prune_live(engine), 300.0),
        Job("prune-batches", lambda: pruning.prune_batches(engine), 3600.0),
        Job("prune-changes", lambda: changes.prune(engine), 3600.0),
        Job("partitions", lambda: schema.make_partitions(engine), 3600.0),
        Job("event-ids", lambda: schema.drop_old_event_ids(engine), 3600.0),
        Job("retention", lambda: schema.drop_expired(engine, config.retention_months), 3600.0),
        Job("spans", lambda: spans.add_up(engine, datetime.now(UTC)), 600.0),
        Job("heads", lambda: heads.make_missing(engine, datetime.now(UTC)), 60.0),
        Job("packs", packing.Packer(engine).run, 5.0),
        Job("removals", lambda: removal.remove_deleted(engine), 60.0),
        Job("salts", salts.delete_old, 3600.0),
    ]


def store_spooled(engine: Engine, batch: batches.Batch) -> None:
    """Store a batch that waited; visitors whose deletion was asked for after it was made are deleted from it, too."""
    batches.store(engine, batch)
    erasure.reopen(engine, batch.id)


def keep_history(engine: Engine, config: Config) -> None:
    """Write the figures that are due, and count how much of the time the service was available."""
    folder = files.folder_of(config.data_dir)
    alerts.note_leading(folder)
    samples.keep(engine)
    with engine.begin() as connection:
        found = availability.read(connection)
    alerts.note_availability(folder, found)


def fold_all(engine: Engine, pacer: Pacer, standing: Standing) -> None:
    """Fold what waits; go on at once only while folds are full. A fold that is behind does not give way to requests.

    What comes meanwhile is left for the next time: each fold pays once for every summary row it touches, so at 10,000
    events/s folds of 400 events took twice the processor time of folds of 4,000.
    """
    while True:
        started_at = time.perf_counter()
        result = fold.fold_once(engine, FOLD_EVENTS, pacer)
        standing.give_way(result.lag_s <= BEHIND_S)
        if result.batches == 0:
            recorder.gauge("fold_lag_s", 0.0)
            return
        recorder.gauge("fold_lag_s", result.lag_s)
        recorder.count("folded_events", result.events)
        recorder.observe("fold_ms", (time.perf_counter() - started_at) * 1000)
        if result.events < FOLD_EVENTS * 0.9:
            return


def include_sessions(engine: Engine, standing: Standing) -> None:
    """Let the engine's sessions give way to requests as well; for a PostgreSQL that runs on this host."""

    @event.listens_for(engine, "connect")
    def add(session: Any, record: Any) -> None:
        record.info["process"] = session.info.backend_pid
        standing.add(record.info["process"])

    @event.listens_for(engine, "close")
    def remove(session: object, record: Any) -> None:
        standing.remove(record.info.get("process", 0))


def lower_vacuum_priority(engine: Engine) -> None:
    """Let what PostgreSQL tidies up by itself give way, too: a worker of it was seen to take half a core."""
    with engine.connect() as connection:
        for process_id in connection.execute(UPKEEP.autovacuum_workers).scalars():
            scheduling.lower_priority(process_id)


class Worker:
    """Runs the jobs, a thread for each lane, while it is the leader."""

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine = engine
        self._standing = Standing()
        if config.database_url is None:
            include_sessions(engine, self._standing)
        self._jobs = list_jobs(engine, config, self._standing)
        self._waiting: set[str] = set()  # what was logged of them is not said again
        self._stop = threading.Event()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; a second worker stands by here until the leader is gone."""
        self._standing.add(os.getpid())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        waits = False
        while not self._stop.is_set():
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    waits = False
                    if _try_lead(connection):
                        log.info("leading the background work")
                        self._lead(connection)
                    else:
                        self._stand_by()
            except (DBAPIError, PoolTimeoutError) as error:
                if not waits:
                    log.warning("background work waits for PostgreSQL: %s", str(getattr(error, "orig", error)).strip())
                waits = True
            self._stop.wait(1.0)

    def _stand_by(self) -> None:
        for job in self._jobs:
            if job.on_every_node:
                self._run(job)

    def _lead(self, lock: Connection) -> None:
        lost = threading.Event()
        lanes: dict[str, list[Job]] = {}
        for job in self._jobs:
            lanes.setdefault(job.lane, []).append(job)
        threads = [threading.Thread(target=self._work, args=(jobs, lost), daemon=True) for jobs in lanes.values()]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.wait(1.0):
                lock.execute(text("/* jobs.still_leader */ SELECT 1"))
        finally:
            lost.set()
            for thread in threads:
                thread.join(30.0)
            self._standing.give_way(True)

    def _work(self, jobs: list[Job], lost: threading.Event) -> None:
        due = {job.name: 0.0 for job in jobs}
        while not (self._stop.is_set() or lost.is_set()):
            for job in jobs:
                if time.monotonic() >= due[job.name] and not self._stop.is_set():
                    due[job.name] = self._run(job)
            self._stop.wait(max(min(due.values()) - time.monotonic(), 0.01))

    def _run(self, job: Job) -> float:
        """Run a job and return when it is due next: after its interval, five times that after a failure."""
        try:
            job.function()
            self._waiting.discard(job.name)
            return time.monotonic() + job.every_s
        except (DBAPIError, PoolTimeoutError) as error:
            if job.name not in self._waiting:
                log.warning("job %s waits for PostgreSQL: %s", job.name, str(getattr(error, "orig", error)).strip())
            self._waiting.add(job.name)
        except Exception:
            log.exception("job %s failed", job.name)
        return time.monotonic() + min(job.every_s * 5, 60.0)


def is_led(connection: Connection) -> bool:
    """Tell whether a background worker leads, on whichever machine."""
    return bool(connection.execute(load_queries("doctor").leader, {"lock": _LEADER_LOCK}).scalar())


def _try_lead(connection: Connection) -> bool:
    statement = text("/* jobs.lead */ SELECT pg_try_advisory_lock(:lock)")
    return bool(connection.execute(statement, {"lock": _LEADER_LOCK}).scalar())
