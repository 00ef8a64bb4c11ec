"""The command `pulse bench-data`."""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from pulse.config import load_config

console = Console(highlight=False)

MIN_EVENTS, MAX_EVENTS = 1_000, 1_000_000_000
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


class Count(click.ParamType):
    """A number of events: 500000, 500k, 10m."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        found = re.fullmatch(r"([0-9]{1,12})([km]?)", str(value).lower().replace("_", ""))
        count = int(found[1]) * _UNITS[found[2]] if found else 0
        if not MIN_EVENTS <= count <= MAX_EVENTS:
            self.fail(f"{value!r} is no number from {MIN_EVENTS:,} to {MAX_EVENTS:,} (10m is ten million)", param, ctx)
        return count


@click.command("bench-data")
@click.option("--events", type=Count(), default="1m", show_default=True, help="How many in all: 500k, 10m.")
@click.option("--days", type=click.IntRange(1, 1100), default=90, show_default=True, help="Days they are spread over.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The last of these days.  [default: yesterday]")
@click.option(
    "--project", "project_ids", type=click.IntRange(1, 2**31 - 1), multiple=True,
    help="A project to fill instead of the three of its own; up to three, the largest first.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Other rows by each.")
@click.option("--processes", type=click.IntRange(1, 64), help="How many work at once.  [default: one a core]")
@click.option("--add", is_flag=True, help="Also to days that have events already.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write rates to this file.")
def bench_data(
    events: int, days: int, until: datetime | None, project_ids: tuple[int, ...], seed: int, processes: int | None,
    add: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Fill past days with realistic events, sessions and summaries, straight into the database.

    The same seed, days and number give the same rows. A run that was broken off goes on where it was.
    """
    from pulse.load.bench_data.run import Wish, open_database, run

    if len(project_ids) > 3 or len(set(project_ids)) < len(project_ids):
        raise click.UsageError("--project may be given up to three times, each another one.")
    last_day: date | None = until.date() if until else None
    wish = Wish(events, days, seed, project_ids, last_day, processes or 0, add)
    config = load_config()
    with open_database(config) as (engine, url):
        outcome = run(engine, url, config, wish, console)
    if outcome.filled_events:
        console.print(
            f"{outcome.filled_events:,} events in {outcome.seconds:,.1f} s: [bold]{outcome.events_per_s:,.0f}/s[/];"
            f" of the time {outcome.rows_s:,.1f} s for rows, {outcome.summaries_s:,.1f} s for sessions, summaries and"
            f" packs, {outcome.jobs_s:,.1f} s for weeks and months, {outcome.vacuum_s:,.1f} s for statistics,"
            f" {outcome.packs_s:,.1f} s for packs of days that had events already"
        )
    if json_path:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
