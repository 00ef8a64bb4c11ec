"""One run of `pulse bench-data`: projects, checks, filling, and what the background worker would do after it."""

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Connection, Engine

from pulse.config import Config
from pulse.jobs import list_jobs
from pulse.load.bench_data import filling
from pulse.load.bench_data.plan import SITES, Plan, Task
from pulse.rollup import packing
from pulse.storage import embedded, projects, schema
from pulse.storage.engine import build_engine
from pulse.storage.localtime import clock
from pulse.storage.scheduling import Standing
from pulse.storage.sql import load_queries

Q = load_queries("bench_data")

# The background worker's jobs that add to what reports read.
SUMMING_JOBS = ("goals", "weeks", "months", "spans", "heads")


class Wish(Struct, frozen=True):
    """What is asked for; without projects those of SITES are made, without a last day it is each zone's yesterday."""

    events: int
    days: int
    seed: int
    project_ids: tuple[int, ...] = ()
    last_day: date | None = None
    processes: int = 0
    add: bool = False


class Outcome(Struct, rename="camel", frozen=True):
    """What was filled, and how fast: seconds of the whole, of each step, and of both parts of the first step."""

    events: int
    days: int
    first_day: date
    last_day: date
    seed: int
    project_ids: tuple[int, ...]
    processes: int
    filled_events: int
    seconds: float
    fill_s: float
    rows_s: float
    summaries_s: float
    jobs_s: float
    vacuum_s: float
    packs_s: float = 0.0

    @property
    def events_per_s(self) -> float:
        """Events a second of the whole."""
        return self.filled_events / self.seconds if self.seconds else 0.0


@contextmanager
def open_database(config: Config) -> Iterator[tuple[Engine, str]]:
    """Yield an engine on the service's database, migrated; an embedded server that did not run is stopped again."""
    server = None if config.database_url else embedded.locate(config.data_dir)
    started = server is not None and embedded.ensure_running(server)
    url = config.database_url or (server.url if server else "")
    engine = build_engine(config, url, application_name="pulse-bench-data", statement_timeout_ms=0)
    try:
        schema.migrate(engine)
        yield engine, url
    finally:
        engine.dispose()
        if started and server is not None:
            embedded.stop(server)


def run(engine: Engine, url: str, config: Config, wish: Wish, console: Console) -> Outcome:
    """Fill the days that are still empty; a run that was broken off goes on where it was. Raises ClickException."""
    with engine.begin() as connection:
        plan = make_plan(connection, wish)
        done = filling.find_done(connection, plan)
        tasks = [task for task in plan.tasks() if (task.project_id, task.day) not in done]
        if not wish.add:
            _refuse_filled_days(connection, plan, done)
    _describe(plan, console)
    if not tasks:
        console.print("All of it is there already.")
    check_disk(plan, tasks, config)
    processes = wish.processes or os.cpu_count() or 1
    started = time.perf_counter()
    filling.make_partitions(engine, plan)
    with filling.Workers(config, url, processes) as workers:
        found = _fill(workers, tasks, console) if tasks else []
        fill_s = time.perf_counter() - started
        jobs_s = _timed(console, "Goals, weeks and months …", lambda: _sum_up(engine, config))
        vacuum_s = _vacuum(engine, processes, console)
        packs_s = _timed(console, "Past days packed for filtered reports …", lambda: _pack(engine, workers))
    seconds = time.perf_counter() - started
    filled = sum(day.events for day in found)
    rows_s, summaries_s = (sum(getattr(day, name) for day in found) / processes for name in ("rows_s", "summaries_s"))
    return Outcome(
        plan.events, plan.days, plan.first_day, plan.last_day, plan.seed, plan.project_ids, processes, filled,
        round(seconds, 2), round(fill_s, 2), round(rows_s, 2), round(summaries_s, 2), round(jobs_s, 2),
        round(vacuum_s, 2), round(packs_s, 2),
    )  # fmt: skip


def make_plan(connection: Connection, wish: Wish) -> Plan:
    """Return the plan for the projects asked for, or the bench's own. Raises ClickException."""
    if wish.project_ids:
        found = [projects.get_project(connection, project_id) for project_id in wish.project_ids]
    else:
        found = [_own_project(connection, site.name, site.timezone) for site in SITES]
    now = datetime.now(UTC)
    yesterday = min(clock(project.timezone).day(now) for project in found) - timedelta(days=1)
    last_day = wish.last_day or yesterday
    if last_day > yesterday:
        raise click.ClickException(f"--until holds {last_day}; no event may lie in the future: up to {yesterday}")
    ids, zones = tuple(p.id for p in found), tuple(p.timezone for p in found)
    return Plan(wish.events, wish.days, last_day, wish.seed, ids, zones)


def _own_project(connection: Connection, name: str, zone: str) -> projects.Project:
    for project in projects.list_projects(connection):
        if project.name == name:
            return project
    return projects.create_project(connection, name, zone)


def _refuse_filled_days(connection: Connection, plan: Plan, done: set[tuple[int, date]]) -> None:
    for project_id, days in filling.find_filled_days(connection, plan).items():
        others = [day for day in days if (project_id, day) not in done]
        if others:
            raise click.ClickException(
                f"Project {project_id} has events on {len(others)} of these days already (the first is {others[0]})."
                " Take other days (--until) or another project, delete it, or add to them with --add."
            )


def check_disk(plan: Plan, tasks: list[Task], config: Config) -> None:
    """Refuse what does not fit beside what is there. Raises ClickException."""
    if config.database_url:  # perhaps on another machine, whose disk can't be seen from here
        return
    folder: Path = config.data_dir.resolve()
    free = shutil.disk_usage(folder).free
    part = sum(task.events for task in tasks) / plan.events
    if plan.disk_bytes * part > free:
        raise click.ClickException(
            f"This needs about {gigabytes(plan.disk_bytes * part)}; {folder} has {gigabytes(free)} left."
        )


def gigabytes(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e9:,.1f} GB"


def _describe(plan: Plan, console: Console) -> None:
    console.print(
        f"{plan.events:,} events on {plan.days} days, {plan.first_day} to {plan.last_day}, seed {plan.seed}:"
        f" about {gigabytes(plan.disk_bytes)} of disk"
    )
    for site, project_id, zone in zip(SITES, plan.project_ids, plan.timezones, strict=False):
        console.print(f"  project {project_id}  {site.name:<13} {zone:<17} {site.pages:,} pages", style="dim")


def _fill(workers: filling.Workers, tasks: list[Task], console: Console) -> list[filling.Filled]:
    started = time.perf_counter()
    with _progress(console) as progress:
        bar = progress.add_task("events", total=sum(task.events for task in tasks), rate="")

        def report(events: int) -> None:
            rate = events / (time.perf_counter() - started)
            progress.update(bar, completed=events, rate=f"{rate:,.0f}/s")

        return workers.fill(tasks, report)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _timed(console: Console, text: str, work: object) -> float:
    started = time.perf_counter()
    with console.status(text):
        work()  # type: ignore[operator]
    return time.perf_counter() - started


def _sum_up(engine: Engine, config: Config) -> None:
    """Do what the background worker would within minutes, until nothing is left."""
    for job in list_jobs(engine, config, Standing()):
        if job.name in SUMMING_JOBS:
            while job.function():
                pass


def _vacuum(engine: Engine, processes: int, console: Console) -> float:
    """Do what autovacuum would: rows marked as visible to all, statistics; several tables at once. Returns seconds."""
    started = time.perf_counter()
    with engine.connect() as connection:
        commands = connection.execute(Q.tables).scalars().all()
    with _progress(console) as progress, ThreadPoolExecutor(processes) as threads:
        bar = progress.add_task("statistics", total=len(commands), rate="")
        for _ in threads.map(lambda command: _run_alone(engine, command), commands):
            progress.advance(bar)
    return time.perf_counter() - started


def _run_alone(engine: Engine, command: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"/* bench_data.vacuum */ {command}")


def _pack(engine: Engine, workers: filling.Workers) -> None:
    """Pack the days that could not be packed with their events, as others were there already."""
    waiting = packing.find_waiting(engine, datetime.now(UTC))
    workers.pack([day for day, _ in reversed(waiting)], lambda done: None)
