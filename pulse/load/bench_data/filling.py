"""Fills the tables with a plan's days, several at once; each is one transaction, there wholly or not at all."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine

from pulse.config import Config
from pulse.load.bench_data.catalogue import read_catalogue
from pulse.load.bench_data.day import make_day
from pulse.load.bench_data.folding import fold_day
from pulse.load.bench_data.plan import Plan, Task
from pulse.load.bench_data.rows import COLUMNS, Rows
from pulse.rollup import packing
from pulse.rollup.copying import copy_in, copy_lines
from pulse.storage import schema
from pulse.storage.engine import build_engine
from pulse.storage.localtime import clock
from pulse.storage.sql import load_queries

Q = load_queries("bench_data")

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Filled:
    """One day done: its events, and the seconds its rows (drawn and copied) and its sessions and summaries took."""

    events: int
    rows_s: float
    summaries_s: float


def make_partitions(engine: Engine, plan: Plan) -> None:
    """Make the months that the plan's days lie in."""
    months = {day.replace(day=1) for task in plan.tasks() for day in _utc_days(task)}
    for month in sorted(months):
        schema.make_partitions(engine, month)
    schema.drop_old_event_ids(engine)  # no client has ids of those days


def _utc_days(task: Task) -> Iterable[date]:
    return (datetime.utcfromtimestamp(ms / 1000).date() for ms in (task.starts_ms, task.ends_ms - 1))


def find_done(connection: Connection, plan: Plan) -> set[tuple[int, date]]:
    """Return the project and day of every task that an earlier run of the same plan has finished."""
    done = set()
    for number, (project_id, zone) in enumerate(zip(plan.project_ids, plan.timezones, strict=True)):
        calendar = clock(zone)
        for batch_id in connection.execute(Q.batches_of, {"writer": plan.writer(number)}).scalars():
            done.add((project_id, calendar.place((batch_id >> 20) * 1000).day))
    return done


def find_filled_days(connection: Connection, plan: Plan) -> dict[int, list[date]]:
    """Return the days of the plan on which its projects have events, by project."""
    found: dict[int, list[date]] = {}
    span = {"project_ids": list(plan.project_ids), "first_day": plan.first_day, "last_day": plan.last_day}
    for project_id, day in connection.execute(Q.days_with_events, span):
        found.setdefault(project_id, []).append(day)
    return found


class Workers:
    """Processes that fill days and pack them."""

    def __init__(self, config: Config, url: str, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.processes = processes
        self._events = context.Value("q", 0)
        self._pool = ProcessPoolExecutor(processes, context, _begin, (config, url, self._events))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def fill(self, tasks: list[Task], report: Callable[[int], None]) -> list[Filled]:
        """Fill the tasks' days; calls `report` with the number of events that are in, often."""
        chosen = _interleave(tasks, self.processes)
        return self._work(fill_day, chosen, lambda _: report(self._events.value))

    def pack(self, days: list[packing.Day], report: Callable[[int], None]) -> None:
        """Pack days from their rows; calls `report` with the number of days that are done, often."""
        self._work(pack_day, days, report)

    def _work(self, function: Callable[[Any], Any], items: list[Any], report: Callable[[int], None]) -> list[Any]:
        waiting: set[Future[Any]] = {self._pool.submit(function, item) for item in items}
        done: list[Any] = []
        while waiting:
            finished, waiting = wait(waiting, POLL_S, FIRST_COMPLETED)
            done += [future.result() for future in finished]
            report(len(done))
        return done


def _interleave(tasks: list[Task], processes: int) -> list[Task]:
    """Give neighbouring days to different times, so that processes seldom extend the same partition's end."""
    part = -(-len(tasks) // processes)
    return [tasks[at + step] for step in range(part) for at in range(0, len(tasks), part) if at + step < len(tasks)]


# What a process of the pool works with.
_engine: Engine
_events: Any


def _begin(config: Config, url: str, events: Any) -> None:
    global _engine, _events
    _engine = build_engine(config, url, application_name="pulse-bench-data", statement_timeout_ms=0)
    _events = events
    gc.disable()  # a day makes a million objects and no cycle
    os.nice(1)


def fill_day(task: Task) -> Filled:
    """Draw, copy and fold one day; runs in a process of the pool."""
    started = time.perf_counter()
    catalogue = read_catalogue(task.site)
    rows = Rows(make_day(task, catalogue), catalogue, task.project_id, task.site.number)
    with _engine.begin() as connection:
        connection.execute(Q.begin)
        connection.execute(Q.lock_day, {"project_id": task.project_id, "day": task.day})
        span = {"starts_ms": task.starts_ms, "ends_ms": task.ends_ms}
        is_alone = not connection.execute(Q.has_events, {"project_id": task.project_id, **span}).scalar_one()
        batches = ([str(batch), task.writer, str(events), "now"] for batch, events in rows.batches)
        copy_in(connection, "ingest_batches", ("id", "writer", "events", "folded_at"), batches)
        copy_lines(connection, "events", COLUMNS, rows.lines())
        copied = time.perf_counter()
        fold_day(connection, task, rows, is_alone=is_alone)
    with _events.get_lock():
        _events.value += task.events
    return Filled(task.events, copied - started, time.perf_counter() - copied)


def pack_day(day: packing.Day) -> None:
    """Pack one day; runs in a process of the pool."""
    packing.pack(_engine, day)
