"""Reports measured on millions of events, beside plain SQL and DuckDB on the same rows: `make bench-reports`.

For each size it fills a service's own data folder with `pulse bench-data` (unless `--data` holds it from before, or
`--filled` names one),
starts the service with an empty shared cache, and measures over HTTP, on the largest project,

- each report and range of days: cold (the cache emptied before each request) and warm, rows and blocks read;
- the analytics report of 30 days with a dozen filters, from one that every visit passes to one that few do;
- eight clients at once, on the same reports and on the mix of `queries.js`: p99 and cache hits;
- the real-time report, alone and while 10,000 events a second come in;
- the analytics report by plain SQL over the raw events, and by DuckDB, exact and approximate;
- what an event takes on disk.

Prints the figures and writes them to bench-reports-results.json.
"""

import atexit
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from pulse.load.bench_data.command import Count
from pulse.load.calibration import calibrate
from pulse.load.machine import describe_machine
from tests.load.figures import Figures, Goal, show, summarize, write
from tests.load.report_costs import dump_plans, read_plans
from tests.load.report_requests import FILTERED_DAYS, RANGES
from tests.load.report_service import WARM_RATE, find_filled, measure, measure_rivals, prepare

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
}  # fmt: skip
_UNITS = {"rows": "rows", "buffers": "blocks", "cache hits": "%", "filled": "/s", "events stored meanwhile": "/s"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)


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
@click.option("--plans", type=click.Path(path_type=Path), help="Write the most expensive statements' plans there.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    runs: int, sizes: tuple[int, ...], days: int, data: Path | None, filled: Path | None, limit_s: int, reports: bool,
    rivals: bool, plans: Path | None, output: Path,
) -> None:  # fmt: skip
    machine = describe_machine()
    console.print(f"{machine.identity}, Python {machine.python}, load {machine.load_average:g}")
    found: list[Figures] = []
    calibration: list[float] = []
    worst: list[dict[str, Any]] = []
    home = data or _temporary_folder()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)  # PostgreSQL's own user must pass through
    places = [find_filled(filled)] if filled else [prepare(home, events, days, console) for events in sizes]
    for number in range(1, runs + 1):
        calibration.append(calibrate())
        figures: Figures = {}
        for place in places:
            console.print(f"run {number} of {runs}, {place.size} events")
            if reports:
                worst = read_plans(measure(place, figures, console))
            if rivals:
                measure_rivals(place, figures, limit_s, console)
        found.append(figures)
    rows = summarize(found, {**{name: Goal(unit_of(name)) for run_ in found for name in _plain(run_)}, **GOALS})
    show_reports(rows)
    show(console, [row for row in rows if " d: " not in row["name"]])
    measured = {"events": [place.outcome.events for place in places], "days": [place.outcome.days for place in places]}
    settings = {"runs": runs, **measured, "rivalLimitSeconds": limit_s}
    loads = [msgspec.to_builtins(place.outcome) for place in places]
    command = " ".join(["python -m tests.load.bench_reports", *sys.argv[1:]])
    write(output, machine, settings, calibration, rows, command=command, plans=worst, loads=loads)
    if worst:
        console.print("\nThe three most expensive statements, run once more under EXPLAIN:\n")
        console.print(dump_plans(worst), markup=False, soft_wrap=True)
    if plans:
        plans.write_text(dump_plans(worst) + "\n")
    console.print(f"→ {output}", style="dim")
    raise SystemExit(1 if any(row["met"] is False for row in rows) else 0)


def _temporary_folder() -> Path:
    # Removed at the very end: the application in this process publishes its figures until then.
    folder = Path(tempfile.mkdtemp(prefix="pulse-reports-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _plain(figures: Figures) -> Iterator[str]:
    return (name.partition(" @ ")[0] for name in figures)


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
