"""What the query monitor costs: `make bench-monitor`.

- The same statements on two engines with the service's own settings, one of them watched, one query here and one there,
  so that both meet the same machine; counting what was taken down is part of the cost. Each query takes a connection
  from the pool, as the service's do, which is what the shares below are of; and once on a connection that is kept.
- Whether that is much: as a part of the average statement of a service under a moderate load (k6, 3,000 events/s, and a
  reader of reports), and of the commits and reports in it.
- Its memory: the figures of a process in which everything is full (500 statements, 100 routes, an hour of slices), and
  the most that publishing them takes.

Prints medians of all runs with their spread and writes them to bench-monitor-results.json.
"""

import gc
import json
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from sqlalchemy import Connection, Engine, text

from pulse.config import Config
from pulse.load.calibration import calibrate
from pulse.load.client import Client
from pulse.load.machine import describe_machine
from pulse.load.service import API_KEY, own_service
from pulse.monitor import recorder
from pulse.monitor.meter import MINUTES, SLICE_S, SLICES, Meter
from pulse.monitor.queries import MAX_STATEMENTS
from pulse.monitor.recorder import QUERY, REQUEST, Recorder
from pulse.storage import embedded
from pulse.storage.engine import build_engine
from tests.load.bench_ingest import run_k6
from tests.load.figures import Figures, Goal, show, summarize, write

RESULTS = Path("bench-monitor-results.json")
GOALS: dict[str, Goal] = {
    "cost of a query": Goal("µs"),
    "cost of a query, connection kept": Goal("µs"),
    "bare SELECT 1": Goal("µs"),
    "look-up by key": Goal("µs"),
    "average statement": Goal("µs"),
    "group commit": Goal("µs"),
    "report's statement": Goal("µs"),
    "cost, part of the average statement": Goal("%", 2),
    "cost, part of a group commit": Goal("%", 2),
    "cost, part of a report's statement": Goal("%", 2),
    "cost, part of a bare SELECT 1": Goal("%"),
    "memory, everything full": Goal("MB", 10),
    "memory while it is published": Goal("MB", 10),
}
SELECT_1 = text("/* bench.nothing */ SELECT 1")
LOOK_UP = text("/* bench.look_up */ SELECT name, timezone FROM projects WHERE id = :id")
SESSIONS, BLOCKS, BLOCK = 5, 20, 100
ROUTES, TEXT_CHARS, BUCKETS = 100, 800, 60
console = Console(highlight=False)

Ask = Callable[[Connection], object]


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often; medians are shown.")
@click.option("--rate", default=3_000, show_default=True, help="Events a second of the load beside.")
@click.option("--steady", default=15, show_default=True, help="Seconds of that load.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(runs: int, rate: int, steady: int, output: Path) -> None:
    machine = describe_machine()
    console.print(f"{machine.identity}, Python {machine.python}, load {machine.load_average:g}")
    found: list[Figures] = []
    calibration = []
    with own_service() as (url, data_dir):
        for number in range(1, runs + 1):
            calibration.append(calibrate())
            with console.status(f"run {number} of {runs} …"):
                found.append(measure(url, embedded.locate(data_dir).url, rate, steady))
    rows = summarize(found, GOALS)
    show(console, rows)
    write(output, machine, {"runs": runs, "rate": rate, "steadySeconds": steady}, calibration, rows)
    console.print(f"→ {output}", style="dim")
    raise SystemExit(1 if any(row["met"] is False for row in rows) else 0)


def measure(url: str, database_url: str, rate: int, steady: int) -> Figures:
    """Return the figures of one run; times in microseconds."""
    bare, watched = _engines(database_url)
    nothing, nothing_kept = (_cost(bare, watched, _ask_nothing, kept) for kept in (False, True))
    look_up, look_up_kept = (_cost(bare, watched, _look_up, kept) for kept in (False, True))
    for engine in (bare, watched):
        engine.dispose()
    cost = statistics.mean((nothing[1], look_up[1]))
    averages = _service_averages(url, rate, steady)
    full, copying = _memory_mb()
    figures = {
        "cost of a query": cost,
        "cost of a query, connection kept": statistics.mean((nothing_kept[1], look_up_kept[1])),
        "bare SELECT 1": nothing[0],
        "look-up by key": look_up[0],
        **averages,
        "cost, part of a bare SELECT 1": 100 * nothing[1] / nothing[0],
        "memory, everything full": full,
        "memory while it is published": copying,
    }
    for name in averages:
        part = "the" if name == "average statement" else "a"
        figures[f"cost, part of {part} {name}"] = 100 * cost / averages[name]
    return figures


def _engines(url: str) -> tuple[Engine, Engine]:
    """An engine without and one with the monitor, both with an open connection."""
    config = replace(Config(), env="development", slow_query_threshold_ms=10_000)
    bare, watched = (build_engine(config, url, application_name="bench", autocommit=True) for _ in range(2))
    recorder.install(watched, config)
    return bare, watched


def _ask_nothing(connection: Connection) -> object:
    return connection.execute(SELECT_1).scalar()


def _look_up(connection: Connection) -> object:
    return connection.execute(LOOK_UP, {"id": 1}).one()


def _cost(bare: Engine, watched: Engine, ask: Ask, kept: bool) -> tuple[float, float]:
    """How long a query takes without the monitor, and the processor time it costs more with it, in µs.

    One query here, one there, again and again, and the medians of both: what else the machine does meets both alike.
    Sessions are opened anew in between, because a backend keeps the core it happened to get.
    """
    walls: list[float] = []
    used: tuple[list[float], list[float]] = ([], [])
    counting: list[float] = []
    for _ in range(SESSIONS):
        with bare.connect() as plain, watched.connect() as seen, recorder.route_scope("/bench", "GET"):
            for connection in (plain, seen):
                ask(connection)
            if not kept:
                plain.close()
                seen.close()
            gc.collect()
            for _ in range(BLOCKS):
                for _ in range(BLOCK):
                    for engine, connection, into in ((bare, plain, used[0]), (watched, seen, used[1])):
                        started_at, before = time.perf_counter(), time.thread_time()
                        if kept:
                            ask(connection)
                        else:
                            with engine.connect() as own:
                                ask(own)
                        into.append(time.thread_time() - before)
                        if engine is bare:
                            walls.append(time.perf_counter() - started_at)
                before = time.thread_time()
                recorder.recorder.tick()
                counting.append((time.thread_time() - before) / BLOCK)
        bare.dispose()
        watched.dispose()
    cost = statistics.median(used[1]) - statistics.median(used[0]) + statistics.median(counting)
    return 1e6 * statistics.median(walls), 1e6 * cost


def _service_averages(url: str, rate: int, steady: int) -> Figures:
    """How long the statements of a service under load take, by its own figures, in µs."""
    client, stop = Client(url, API_KEY), threading.Event()
    admin = Client(url, "")
    admin.post("/api/v1/performance/reset", b"")

    def read_reports() -> None:
        day = 0
        while not stop.wait(0.05):
            day += 1
            client.get(f"/api/v1/projects/1/analytics?limit={day % 90 + 1}")

    reader = threading.Thread(target=read_reports)
    reader.start()
    try:
        run_k6(url, {"RATE": rate, "WARMUP_S": 0, "STEADY_S": steady, "SPIKE_S": 0})
    finally:
        stop.set()
        reader.join()
    queries = json.loads(admin.get("/api/v1/performance/queries").body)["data"]
    for used in (client, admin):
        used.close()
    reports = [found for found in queries["statements"] if found["name"].startswith("overview.")]
    commits = [found for found in queries["statements"] if found["name"] == "ingest.store"]
    return {
        "average statement": float(queries["statistics"]["averageDuration"].removesuffix("ms")) * 1000,
        "group commit": _mean_us(commits),
        "report's statement": _mean_us(reports),
    }


def _mean_us(statements: list[dict[str, float]]) -> float:
    calls = sum(found["calls"] for found in statements)
    return 1000 * sum(found["totalMs"] for found in statements) / max(calls, 1)


def _memory_mb() -> tuple[float, float]:
    """The memory of a recorder in which everything is full, and the most while it publishes its figures."""
    gc.collect()
    tracemalloc.start()
    full = Recorder()
    _fill(full)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    full.encoded()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20, most / 2**20


def _fill(full: Recorder) -> None:
    values = [0.05 * 1.12**step for step in range(BUCKETS)]
    full.slow_ms = values[-5]
    recorder.log.disabled = True
    for number in range(MAX_STATEMENTS):
        raw = f"/* bench.statement_{number} */ SELECT " + "a, " * (TEXT_CHARS // 3) + f"t{number} FROM t{number}"
        for place, value in enumerate(values):
            with recorder.route_scope(f"/route/{(number + place) % ROUTES}", "GET"):
                full.record_query(raw, value, 1)
    recorder.log.disabled = False
    # An hour passes: slices of ten seconds and minutes, each with every route.
    meter = Meter(full._meter.since)
    for step in range(SLICES + MINUTES * 60 // SLICE_S):
        for route in range(ROUTES):
            for value in values[:: 1 + BUCKETS // 12]:
                meter.observe(f"{REQUEST}GET /route/{route}", value)
        meter.observe(QUERY, values[step % BUCKETS])
        meter.rotate(meter.since + (step + 1) * SLICE_S)
    full._meter = meter


if __name__ == "__main__":
    main()
