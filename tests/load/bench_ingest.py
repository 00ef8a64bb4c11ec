"""Ingestion measured against its limits in the same run, on the same machine: `make bench-ingest`.

Each run starts a service of its own and measures

- open loop: single events and batches of a hundred at a fixed rate (k6, constant arrival), the folder at work;
- closed loop: how many single events and how many events in batches of a hundred it takes a second at most;
- the limits: one bare COPY session that loads the same rows into the same table, and a Flask application that only
  answers 204 under the same gunicorn settings.

With --soak one more service takes 10,000 events/s for that long, to see whether a worker's memory grows.

Prints medians of all runs with their spread and writes them to bench-ingest-results.json.
"""

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg2
from rich.console import Console

from pulse.load.calibration import calibrate
from pulse.load.machine import PYTHON, ROOT, describe_machine, python_environment
from pulse.load.service import find_free_port, is_ready, own_service
from pulse.storage import embedded
from tests.load.figures import Figures, Goal, show, summarize, write

RESULTS = Path("bench-ingest-results.json")
COPY_ROWS = 50_000
# A service that has just started fills its caches and pools; so long it may.
SETTLE_S = 60
SOAK_RATE = 10_000
K6 = Path(PYTHON).with_name("k6")
# Under load Go looks after its threads every 20 µs. Timers that may be this late wake it less often, which saves a
# sixth of the generator's processor time; requests keep their rate, and each is timed from when it is sent.
TIMER_SLACK_NS = 300_000
PR_SET_TIMERSLACK = 29
# What is measured, its unit, and the figure it has to stay below or above.
GOALS: dict[str, Goal] = {
    "single p99": Goal("ms", 50),
    "batch p99": Goal("ms", 100),
    "errors": Goal("%", 0.1),
    "not sent in time": Goal("requests", 1),
    "fold lag at the end": Goal("s", 3),
    "largest web worker": Goal("MB", 150),
    "web worker after the first minute": Goal("MB", 150),
    "web worker half way": Goal("MB", 150),
    "web worker at the end": Goal("MB", 150),
    "growth of the web worker": Goal("%", 2),
    "background worker after the first minute": Goal("MB"),
    "background worker half way": Goal("MB"),
    "background worker at the end": Goal("MB"),
    "batches: part of bare COPY": Goal("", above=0.3),
    "single: part of bare 204": Goal("", above=0.5),
}
console = Console(highlight=False)


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often; medians are shown.")
@click.option("--rate", "rates", multiple=True, type=int, default=(10_000,), help="Events a second; may be repeated.")
@click.option("--warmup", default=10, show_default=True, help="Seconds before each open loop is measured.")
@click.option("--steady", default=60, show_default=True, help="Seconds each open loop is measured.")
@click.option("--closed", default=10, show_default=True, help="Seconds of each closed loop.")
@click.option("--soak", default=0, help="Seconds of one long load after a minute of it; 0: none.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(runs: int, rates: tuple[int, ...], warmup: int, steady: int, closed: int, soak: int, output: Path) -> None:
    machine = describe_machine()
    console.print(f"{machine.identity}, Python {machine.python}, load {machine.load_average:g}")
    found: list[Figures] = []
    calibration = []
    for number in range(1, runs + 1):
        calibration.append(calibrate())
        with console.status(f"run {number} of {runs} …"):
            found.append(measure(rates, warmup, steady, closed))
    settings = {
        "runs": runs, "rates": rates, "warmupSeconds": warmup, "steadySeconds": steady, "closedSeconds": closed,
        "soakSeconds": soak,
    }  # fmt: skip
    rows = summarize(found, GOALS)
    if soak:
        with console.status(f"{soak + SETTLE_S} s at {SOAK_RATE:,}/s …"):
            rows += summarize([measure_memory(SOAK_RATE, soak)], GOALS)
    show(console, rows)
    write(output, machine, settings, calibration, rows)
    console.print(f"→ {output}", style="dim")
    raise SystemExit(1 if any(row["met"] is False for row in rows) else 0)


def measure(rates: tuple[int, ...], warmup: int, steady: int, closed: int) -> Figures:
    """Return the figures of one run: the service's, and those of the limits."""
    figures: Figures = {}
    with own_service() as (url, data_dir):
        for rate in rates:
            open_loop = {"RATE": rate, "WARMUP_S": warmup, "STEADY_S": steady, "SPIKE_S": 0}
            figures |= {f"{name} @ {rate:,}/s": value for name, value in _read_open_loop(url, open_loop).items()}
            figures[f"fold lag at the end @ {rate:,}/s"] = fold_lag_s(data_dir)
        single = run_k6(url, {"ONLY": "single"}, closed=closed)
        batch = run_k6(url, {"ONLY": "batch"}, closed=closed)
        figures["largest web worker"] = worker_memory_mb(url)
        figures["single, closed loop"] = single["requestsPerSecond"]
        figures["batches, closed loop"] = batch["eventsPerSecond"]
        figures["bare COPY"] = copy_rate(data_dir)
    with bare_application() as url:
        figures["bare 204"] = run_k6(url, {"ONLY": "single"}, closed=closed)["requestsPerSecond"]
    figures["batches: part of bare COPY"] = figures["batches, closed loop"] / figures["bare COPY"]
    figures["single: part of bare 204"] = figures["single, closed loop"] / figures["bare 204"]
    return figures


def measure_memory(rate: int, seconds: int) -> Figures:
    """Return the figures of one long load: memory after a minute of it, half way and at its end, and its latencies."""
    with own_service() as (url, data_dir):
        settings = {"RATE": rate, "WARMUP_S": SETTLE_S, "STEADY_S": seconds, "SPIKE_S": 0}
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(_read_open_loop, url, settings)
            wait([load], SETTLE_S)
            first = worker_memory_mb(url), worker_memory_mb(url, "pulse.cli")
            wait([load], seconds / 2)
            middle = worker_memory_mb(url), worker_memory_mb(url, "pulse.cli")
            found = load.result()
        last = worker_memory_mb(url), worker_memory_mb(url, "pulse.cli")
        figures = {f"{name} @ {rate:,}/s for {seconds} s": value for name, value in found.items()}
        figures[f"fold lag at the end @ {rate:,}/s for {seconds} s"] = fold_lag_s(data_dir)
    for name, sizes in zip(("web", "background"), zip(first, middle, last, strict=True), strict=True):
        for when, size in zip(("after the first minute", "half way", "at the end"), sizes, strict=True):
            figures[f"{name} worker {when}"] = size
    figures["growth of the web worker"] = round(100 * (last[0] / first[0] - 1), 1)
    return figures


def _read_open_loop(url: str, settings: dict[str, Any]) -> Figures:
    found = run_k6(url, settings)
    names = {"events": "eventsPerSecond", "errors": "errorPercent", "generator": "generatorCores"}
    figures = {name: found[key] for name, key in names.items()}
    for kind in ("single", "batch"):
        for name in ("p50", "p95", "p99"):
            figures[f"{kind} {name}"] = found[kind][f"{name}Ms"]
    figures["not sent in time"] = found["droppedIterations"]
    return figures


def run_k6(
    url: str, settings: dict[str, Any], closed: int | None = None, script: str = "ingestion.js", clients: int = 32
) -> dict[str, Any]:
    """Run a script and return its figures; `closed` makes it a closed loop of that many seconds."""
    if not K6.exists():
        raise click.ClickException(f"There is no k6 at {K6}: `make setup` installs it.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [str(K6), "run", "--quiet", "--no-usage-report"]
        if closed:
            command += ["--vus", "64" if settings.get("ONLY") == "single" else str(clients), "--duration", f"{closed}s"]
        for name, value in {"API_KEY": "test_api_key", **settings, "BASE_URL": url, "RESULTS": path}.items():
            command += ["--env", f"{name}={value}"]
        used, started = _children_cpu_s(), time.monotonic()
        # With Go's usual 100 the generator, on the service's own processors, spends a tenth of its time on its garbage.
        environment = {**os.environ, "GOGC": "400"}
        with _lazy_timers():
            process = subprocess.Popen(
                [*command, str(ROOT / "tests" / "load" / script)], env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        with process:
            said = process.communicate()[0]
        cores = (_children_cpu_s() - used) / (time.monotonic() - started)
        if not path.exists():
            raise click.ClickException(f"k6 ended without results:\n{said[-2000:]}")
        figures: dict[str, Any] = json.loads(path.read_bytes())["figures"]
    figures["generatorCores"] = round(cores, 2)
    return figures


@contextlib.contextmanager
def _lazy_timers() -> Iterator[None]:
    """Let the timers of a process that this thread starts be late by TIMER_SLACK_NS (on Linux only)."""
    if sys.platform != "linux":
        yield
        return
    set_option = ctypes.CDLL(None).prctl
    slack = ctypes.c_ulong(TIMER_SLACK_NS)
    set_option(PR_SET_TIMERSLACK, slack)
    try:
        yield
    finally:
        set_option(PR_SET_TIMERSLACK, ctypes.c_ulong(0))  # what it was when the thread began


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def copy_rate(data_dir: Path) -> float:
    """Return the rows a second one COPY loads into `events`, of rows that the service stored just before.

    They are moved by a microsecond, or their key would exist already, and belong to no batch, so nobody folds them.
    """
    server = embedded.locate(data_dir)
    session = psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0")
        columns = [name for (name,) in cursor.fetchall()]
        changed = {"occurred_at": "occurred_at + interval '1 microsecond'", "batch_id": "0"}
        chosen = ", ".join(changed.get(name, name) for name in columns)
        rows = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT {chosen} FROM events LIMIT {COPY_ROWS}) TO STDOUT", rows)
        session.commit()
        rows.seek(0)
        started = time.perf_counter()
        cursor.copy_expert(f"COPY events ({', '.join(columns)}) FROM STDIN", rows)
        copied = cursor.rowcount
        session.commit()
        return round(copied / (time.perf_counter() - started), 1)


def fold_lag_s(data_dir: Path) -> float:
    """Return the age of the oldest group of events that is not yet in the summaries."""
    server = embedded.locate(data_dir)
    session = psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(committed_at)), 0) FROM ingest_batches"
            " WHERE folded_at IS NULL"
        )
        return round(float(cursor.fetchone()[0]), 2)


def worker_memory_mb(url: str, kind: str = "gunicorn") -> float:
    """Return the resident memory of the largest process of a kind (by its command line) of the service at `url`."""
    port = int(url.rpartition(":")[2])
    sizes = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(kind in part for part in process.cmdline()) and process.environ().get("PORT") == str(port):
                sizes.append(process.memory_info().rss / 2**20)
    return round(max(sizes, default=0.0), 1)


@contextlib.contextmanager
def bare_application() -> Iterator[str]:
    """Serve the bare application with the service's own gunicorn settings and yield its URL."""
    port = find_free_port()
    environment = {**python_environment(), "HOST": "127.0.0.1", "PORT": str(port), "PULSE_ENV": "development"}
    process = subprocess.Popen(
        [PYTHON, "-m", "gunicorn", "-c", "gunicorn.conf.py", "tests.load.bare_app:app"], cwd=ROOT, env=environment
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not is_ready(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise click.ClickException("The bare application did not start.")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
