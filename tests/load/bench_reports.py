"""Reports measured on millions of events, beside plain SQL and DuckDB on the same rows: `make bench-reports`.

For each size it fills a service's own data folder with `pulse bench-data` (unless `--data` holds it from before, or
`--filled` names one),
starts the service with an empty shared cache, and measures over HTTP, on the largest project,

- each report and range of days: cold (the cache emptied before each request) and warm, rows and blocks read;
- the analytics report of 30 days with a dozen filters, from one that every visit passes to one that few do;
- eight clients at once, on the same reports and on the mix of `queries.js`, and that mix at a rate: p99 and cache hits;
- the real-time report, alone and while 10,000 events a second come in;
- the analytics report by plain SQL over the raw events, and by DuckDB, exact and approximate;
- what an event takes on disk.

Prints the figures and writes them to bench-reports-results.json; a run that is stopped writes what it has.
"""

import atexit
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from pulse.load.bench_data.command import Count
from pulse.load.calibration import calibrate
from pulse.load.machine import describe_machine, read_commit
from tests.load.figures import Figures, Goal, show, summarize, write
from tests.load.report_costs import dump_plans, read_plans
from tests.load.report_requests import FILTERED_DAYS, RANGES
from tests.load.report_service import MIX_NAME, WARM_RATE, Place, find_filled, measure, measure_rivals, prepare

RESULTS = Path("bench-reports-results.json")
_COLD = Goal("ms", 200)
GOALS: dict[str, Goal] = {
    **{f"{report} {days} d: cold p99": _COLD
       for report in ("analytics", "events", "campaigns", "campaigns/compare", "campaigns/top", "goals")
       for days in RANGES},
    f"all filters, {FILTERED_DAYS} days: cold p99": Goal("ms", 1000),
    "realtime: cold p99": Goal("ms", 100),
    "realtime: p99 during ingestion": Goal("ms", 100),
    "8 clients, same reports: p99": Goal("ms", 10),
    f"{WARM_RATE} a second, same reports: p99": Goal("ms", 10),
    "8 clients, same reports: cache hits": Goal("%", above=95),
    "8 clients, mix: cache hits": Goal("%", above=95),
    f"{MIX_NAME}: cache hits": Goal("%", above=95),
}  # fmt: skip
_UNITS = {"rows": "rows", "buffers": "blocks", "cache hits": "%", "filled": "/s", "events stored meanwhile": "/s"}
# Options whose value is a path: those that say what is measured, and those that say where results go.
_FOLDERS, _FILES = ("--data", "--filled"), ("--output", "--plans")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)


class Record:
    """What a run has measured so far, as it is shown and written."""

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self._output = output
        self._settings = settings
        self._commit = read_commit()
        self.machine = describe_machine()
        self.places: list[Place] = []
        self.found: list[Figures] = []
        self.calibration: list[float] = []
        self.plans: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each figure."""
        plain = (name.partition(" @ ")[0] for run in self.found for name in run)
        return summarize(self.found, {**{name: Goal(unit_of(name)) for name in plain}, **GOALS})

    def write(self, *, complete: bool) -> None:
        """Write what there is; nothing when nothing was measured."""
        if not any(self.found):
            return
        outcomes = [place.outcome for place in self.places]
        measured = {"events": [one.events for one in outcomes], "days": [one.days for one in outcomes]}
        write(
            self._output, self.machine, {**self._settings, **measured}, self.calibration, self.rows(),
            commit=self._commit, command=show_command(sys.argv[1:]), plans=self.plans,
            loads=msgspec.to_builtins(outcomes), **({} if complete else {"isComplete": False}),
        )  # fmt: skip
        console.print(f"→ {self._output}{'' if complete else ', broken off'}", style="dim")


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True, help="How often; medians are shown.")
@click.option("--events", "sizes", type=Count(), multiple=True, default=("1m", "10m"), help="1m, 10m; may be repeated.")
@click.option("--days", default=365, show_default=True, help="Days that the events are spread over.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder to keep the filled data in, for the next time.")
@click.option(
    "--filled", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A PULSE_DATA_DIR that `pulse bench-data` has filled, to measure as it is; instead of --events and --days.",
)
@click.option("--limit", "limit_s", default=60, show_default=True, help="Seconds after which a rival is stopped.")
@click.option("--reports/--no-reports", default=True, show_default=True, help="Measure the service's reports.")
@click.option("--rivals/--no-rivals", default=True, show_default=True, help="Measure plain SQL and DuckDB too.")
@click.option("--duckdb/--no-duckdb", default=True, show_default=True, help="Copying the events to it takes long.")
@click.option("--plans", type=click.Path(path_type=Path), help="Write the most expensive statements' plans there.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    runs: int, sizes: tuple[int, ...], days: int, data: Path | None, filled: Path | None, limit_s: int, reports: bool,
    rivals: bool, duckdb: bool, plans: Path | None, output: Path,
) -> None:  # fmt: skip
    # A run that is told to stop leaves what it measured, and no service behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    record = Record(output, {"runs": runs, "rivalLimitSeconds": limit_s})
    console.print(f"{record.machine.identity}, Python {record.machine.python}, load {record.machine.load_average:g}")
    is_complete = False
    try:
        record.places = [find_filled(filled)] if filled else _prepare(data or _temporary_folder(), sizes, days)
        for number in range(1, runs + 1):
            record.calibration.append(calibrate())
            figures: Figures = {}
            record.found.append(figures)
            for place in record.places:
                console.print(f"run {number} of {runs}, {place.size} events")
                if reports:
                    record.plans = read_plans(measure(place, figures, console))
                if rivals:
                    measure_rivals(place, figures, limit_s, console, duckdb)
        is_complete = True
    finally:
        record.write(complete=is_complete)
    rows = record.rows()
    show_reports(rows)
    show(console, [row for row in rows if " d: " not in row["name"]])
    if record.plans:
        console.print("\nThe three most expensive statements, run once more under EXPLAIN:\n")
        console.print(dump_plans(record.plans), markup=False, soft_wrap=True)
    if plans:
        plans.write_text(dump_plans(record.plans) + "\n")
    raise SystemExit(1 if any(row["met"] is False for row in rows) else 0)


def _prepare(home: Path, sizes: tuple[int, ...], days: int) -> list[Place]:
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)  # PostgreSQL's own user must pass through
    return [prepare(home, events, days, console) for events in sizes]


def show_command(options: list[str]) -> str:
    """Return the command that repeats a run, with no path of this machine in it."""
    shown, rest = [], iter(options)
    for option in rest:
        name, _, value = option.partition("=")
        if name in _FOLDERS:
            shown.append(f"{name} FOLDER")
        elif name not in _FILES:
            shown.append(option)
        if name in (*_FOLDERS, *_FILES) and not value:
            next(rest, None)
    return " ".join([".venv/bin/python -m tests.load.bench_reports", *shown])


def _temporary_folder() -> Path:
    # Removed at the very end: the application in this process publishes its figures until then.
    folder = Path(tempfile.mkdtemp(prefix="pulse-reports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def unit_of(name: str) -> str:
    """Return a figure's unit."""
    last = name.rpartition(": ")[2]
    return "B" if name.startswith("disk") else _UNITS.get(last, "ms")


def show_reports(rows: list[dict[str, Any]]) -> None:
    """Print one line for each report and range."""
    columns = (
        "cold p50", "cold p95", "cold p99", "warm p50", "warm p95", "warm p99", "rows", "buffers", "plain SQL",
        "DuckDB", "DuckDB approximate",
    )  # fmt: skip
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name, _, size = row["name"].partition(" @ ")
        report, separator, figure = name.partition(": ")
        if separator and report.endswith(" d"):
            lines.setdefault((size, report), {})[figure] = row
    table = Table("events", "report", *(f"[right]{column}[/]" for column in columns))
    for (size, report), found in lines.items():
        cells = []
        for column in columns:
            cell = found.get(column) or found.get(f"{column}, stopped")
            cells.append("" if cell is None else _show_cell(cell))
        table.add_row(size, report, *cells)
    console.print(table)


def _show_cell(cell: dict[str, Any]) -> str:
    text = f"{cell['median']:,.0f}" if cell["median"] >= 100 else f"{cell['median']:.1f}"
    text = f"> {text}" if "stopped" in cell["name"] else text
    return f"[bold red]{text}[/]" if cell["met"] is False else text


if __name__ == "__main__":
    main()
