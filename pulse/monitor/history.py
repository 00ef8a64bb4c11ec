"""Figures over time: the last minutes from memory, longer ranges out of what PostgreSQL keeps of them."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from pulse.errors import Detail, Invalid
from pulse.monitor.measures import METRICS, NAMES, reduce
from pulse.monitor.meter import MINUTE_S, MINUTES, SLICE_S, SLICES
from pulse.monitor.report import iso
from pulse.monitor.samples import DAY_S, HOUR_S, QUARTER_S, SIX_HOURS_S, Q
from pulse.monitor.service import ServiceStats, Window
from pulse.monitor.snapshot import Slice

# The length of a step and of the whole range, in seconds.
RANGES = {
    "5m": (SLICE_S, SLICES * SLICE_S),
    "1h": (SLICE_S, HOUR_S),
    "24h": (MINUTE_S, DAY_S),
    "14d": (QUARTER_S, 14 * DAY_S),
    "30d": (HOUR_S, 30 * DAY_S),
    "1y": (SIX_HOURS_S, 365 * DAY_S),
}
MAX_METRICS = 20

Rows = dict[int, list[float | None]]


class Point(msgspec.Struct, frozen=True):
    """The figure of one step; null where nothing was measured."""

    at: str
    value: float | None


class Series(msgspec.Struct, frozen=True):
    """One metric, a value for each step from the range's start on; null where nothing was measured."""

    metric: str
    unit: str
    values: list[float | None]


class Start(msgspec.Struct, frozen=True):
    """When a release was started on a node."""

    at: str
    node: str
    version: str
    commit: str | None


class History(msgspec.Struct, rename="camel", frozen=True):
    """The metrics asked for over one range, oldest first, `step_seconds` apart.

    `problem` says why figures of PostgreSQL are missing, null when it was asked. `metric`, `unit` and `points` are set
    when one metric was asked for.
    """

    range: str
    step_seconds: int
    start_at: str
    series: list[Series]
    starts: list[Start]
    problem: str | None = None
    metric: str | None = None
    unit: str | None = None
    points: list[Point] | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    metrics: tuple[str, ...]
    range: str


def read_wish(metric: str, chosen: str) -> Wish:
    """Read the question. Raises Invalid naming `metric` or `range`."""
    metrics = tuple(dict.fromkeys(part.strip() for part in metric.split(",") if part.strip()))
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not 1 <= len(metrics) <= MAX_METRICS:
        rule = f"1 to {MAX_METRICS} of " + ", ".join(METRICS) + ", with commas between them"
        raise Invalid("There is no such metric.", details=[Detail("metric", rule)])
    if chosen not in RANGES:
        raise Invalid("There is no such range.", details=[Detail("range", "one of " + ", ".join(RANGES))])
    return Wish(metrics, chosen)


def series(stats: ServiceStats, wish: Wish, kept: Rows, starts: list[Start], problem: str | None) -> History:
    """The answer out of the figures in memory and `kept`, those of PostgreSQL by the start of their step."""
    step_s, length_s = RANGES[wish.range]
    if problem is not None and wish.range == "1h":
        step_s = MINUTE_S  # memory holds that much without PostgreSQL
    last = int(stats.at) // step_s * step_s
    first = last - length_s + step_s
    rows = {**_in_memory(stats, step_s, wish.metrics), **kept}
    grid = [rows.get(start) for start in range(first, last + 1, step_s)]
    found = [_series(metric, grid) for metric in wish.metrics]
    about = (wish.range, step_s, iso(first) or "", found, starts, problem)
    if len(found) > 1:
        return History(*about)
    points = [Point(iso(first + step_s * place) or "", value) for place, value in enumerate(found[0].values)]
    return History(*about, found[0].metric, found[0].unit, points)


def _series(metric: str, grid: list[list[float | None] | None]) -> Series:
    place = NAMES.index(metric)
    # A row of an older release may lack the newest metrics.
    values = [None if row is None or place >= len(row) else row[place] for row in grid]
    return Series(metric, METRICS[metric][0], [None if value is None else round(value, 3) for value in values])


def _in_memory(stats: ServiceStats, step_s: int, metrics: tuple[str, ...]) -> Rows:
    """The steps memory knows: slices of the last five minutes, or minutes of the last hour."""
    if step_s > MINUTE_S:
        return {}
    known, count = (stats.slices, SLICES) if step_s == SLICE_S else (stats.minutes, MINUTES)
    last = int(stats.at) // step_s * step_s
    rows: Rows = {}
    for start in range(last - (count - 1) * step_s, last + 1, step_s):
        if start + step_s > stats.since:
            found = reduce(known.get(start) or Slice(start))
            covered_s = max(min(stats.at, start + step_s) - max(start, stats.since), 1.0)
            window = Window(found.counts, found.histograms, covered_s)
            rows[start] = [measure(window) if name in metrics else None for name, (_, measure) in METRICS.items()]
    return rows


def read_kept(connection: Connection, chosen: str, now: float) -> tuple[Rows, list[Start]]:
    """The steps and start marks of a range that PostgreSQL holds (at most 1,460 rows, 30 ms)."""
    step_s, length_s = RANGES[chosen]
    first = {"step_s": step_s, "first": int(now) - length_s - step_s}
    rows = {row.starts_at: row.figures for row in connection.execute(Q.samples, first)}
    starts = [
        Start(iso(row.started_at) or "", row.node, row.version, row.commit)
        for row in connection.execute(Q.starts, {"first": first["first"]})
    ]
    return rows, starts


def note_start(connection: Connection, at: float, node: str, version: str, commit: str | None) -> None:
    """Mark the start of a release on a node; the same one again changes nothing."""
    connection.execute(Q.note_start, {"started_at": at, "node": node, "version": version, "commit": commit})
