"""How each named statement fares over hours and days: calls, mean time and slow runs, kept in PostgreSQL."""

from time import time

import msgspec
from sqlalchemy import Connection, Engine

from pulse.errors import Detail, Invalid
from pulse.monitor import shared
from pulse.monitor.report import iso
from pulse.monitor.samples import DAY_S, HOUR_S, Q
from pulse.monitor.service import ServiceStats

FIVE_MINUTES_S = 300
# Length of a step and how long it is kept, in seconds; by the range that shows it.
RANGES = {"24h": (FIVE_MINUTES_S, DAY_S), "14d": (HOUR_S, 14 * DAY_S)}
# Those that took most time since they were looked at last; 60 named statements are all that a service has in use.
MOST = 60
MAX_NAME = 120

Totals = dict[str, tuple[int, float, int]]


class TrendPoint(msgspec.Struct, rename="camel", frozen=True):
    """One step of a statement that was run in it; `mean_ms` in milliseconds."""

    at: str
    calls: int
    mean_ms: float
    slow_queries: int


class Trend(msgspec.Struct, rename="camel", frozen=True):
    """The steps in which a statement was run, oldest first."""

    name: str
    range: str
    step_seconds: int
    points: list[TrendPoint]


class TrendKeeper:
    """Adds up what statements did since the last look; for the leader's background worker, every minute."""

    def __init__(self) -> None:
        self._seen: Totals | None = None
        self._since = 0.0

    def keep(self, engine: Engine) -> int:
        """Write what has grown; return how many statements. The first look after a start only remembers."""
        stats = shared.collect()
        totals = _totals(stats)
        grown = self._grown(totals, stats.since)
        if grown:
            rows = [
                {"step_s": step_s, "starts_at": int(stats.at) // step_s * step_s, "name": name, "calls": calls,
                 "total_ms": total_ms, "slow": slow}
                for step_s, _ in RANGES.values()
                for name, (calls, total_ms, slow) in sorted(grown.items())
            ]  # fmt: skip
            with engine.begin() as connection:
                connection.execute(Q.add_statement, rows)
        self._seen, self._since = totals, stats.since
        return len(grown)

    def _grown(self, totals: Totals, since: float) -> Totals:
        if self._seen is None:
            return {}
        # After a reset everything was done since; a process less (of another node) makes a total shrink.
        seen = self._seen if since <= self._since else {}
        grown = {
            name: (calls - before[0], max(total_ms - before[1], 0.0), max(slow - before[2], 0))
            for name, (calls, total_ms, slow) in totals.items()
            if calls > (before := seen.get(name, (0, 0.0, 0)))[0]
        }
        return dict(sorted(grown.items(), key=lambda item: -item[1][1])[:MOST])


def _totals(stats: ServiceStats) -> Totals:
    totals: Totals = {}
    for found in stats.statements:
        # Statements without a block's name would come in ever new texts.
        if found.name != found.text and len(found.name) <= MAX_NAME:
            calls, total_ms, slow = totals.get(found.name, (0, 0.0, 0))
            totals[found.name] = (calls + found.times.count, total_ms + found.times.total, slow + found.slow)
    return totals


def read(connection: Connection, name: str, chosen: str, now: float | None = None) -> Trend:
    """The trend of one statement. Raises Invalid naming `range`."""
    if chosen not in RANGES:
        raise Invalid("There is no such range.", details=[Detail("range", "one of " + ", ".join(RANGES))])
    step_s, length_s = RANGES[chosen]
    now = time() if now is None else now
    wanted = {"name": name, "step_s": step_s, "first": now - length_s}
    points = [
        TrendPoint(iso(row.starts_at) or "", row.calls, round(row.total_ms / row.calls, 3), row.slow)
        for row in connection.execute(Q.statement_steps, wanted)
    ]
    return Trend(name, chosen, step_s, points)


def prune(engine: Engine, now: float | None = None) -> int:
    """Delete the steps that are past their time; return how many."""
    now = time() if now is None else now
    with engine.begin() as connection:
        return sum(
            connection.execute(Q.prune_statements, {"step_s": step_s, "before": now - kept_s}).rowcount
            for step_s, kept_s in RANGES.values()
        )
