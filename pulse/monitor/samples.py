"""Keeps the service's figures in PostgreSQL: each slice of ten seconds, added up to minutes, quarters, hours, …

One transaction writes a slice and brings the longer steps up to date: each slice is counted once, whatever dies. Costs
nine small writes every ten seconds; how much space that comes to is in docs/SCHEMA.md.
"""

from time import time

import msgspec
from sqlalchemy import Connection, Engine

from pulse.monitor import recorder, shared, targets
from pulse.monitor.measures import READY, measure_all, reduce
from pulse.monitor.meter import SLICE_S, SLICES
from pulse.monitor.service import ServiceStats, Window
from pulse.monitor.snapshot import Slice, encode
from pulse.storage.sql import load_queries

Q = load_queries("history")

HOUR_S, DAY_S = 3600, 86_400
QUARTER_S, SIX_HOURS_S = 900, 21_600
# Length of a step and how long it is kept, both in seconds. A longer step begins where a shorter one does.
KEPT_S = {SLICE_S: 2 * HOUR_S, 60: 14 * DAY_S, QUARTER_S: 14 * DAY_S, HOUR_S: 366 * DAY_S, SIX_HOURS_S: 366 * DAY_S}
# By then every process, also of other nodes, has published what it did in a slice.
SETTLED_AFTER_S = 5
# How young a web process's figures are while it lives (it publishes every 5 seconds at the least).
FRESH_S = 12.0
# A minute is available if the service was seen ready in at least three of its six slices and failed under 1 % of it.
READY_LOOKS = 3
MAX_ERROR_PERCENT = 1.0


class Sums(msgspec.Struct, array_like=True):
    """What a step adds up to so far: how many slices are in it, how many of its minutes were available."""

    slices: int
    available: int
    total: Slice

    def is_available(self) -> bool:
        """Whether this, as a minute, was ready with under 1 % errors."""
        if self.total.counts.get(READY, 0) < READY_LOOKS:
            return False
        errors, _ = targets.all_errors_percent(_window(self.total, self.slices))
        return errors is None or errors < MAX_ERROR_PERCENT


_sums = msgspec.msgpack.Decoder(Sums)


def keep(engine: Engine) -> int:
    """Write every slice that is settled and not yet written, and note that the service is ready; return how many.

    For the leader's background worker, every ten seconds. After PostgreSQL was away it writes what memory still holds,
    five minutes. Raises what PostgreSQL raises.
    """
    stats = shared.collect()
    with engine.begin() as connection:
        connection.execute(Q.lock)
        last = connection.execute(Q.last_sample, {"step_s": SLICE_S}).scalar()
        due = list_due(stats, last)
        if due:
            write(connection, due)
    if any(process.role == "web" and time() - process.published_at < FRESH_S for process in stats.processes):
        recorder.count(READY)
    return len(due)


def list_due(stats: ServiceStats, last: int | None) -> list[Slice]:
    """The slices to write, oldest first, empty ones included; `last` is the start of the newest one written."""
    end = (int(stats.at) - SETTLED_AFTER_S) // SLICE_S * SLICE_S
    first = max(int(stats.since) // SLICE_S * SLICE_S, end - SLICES * SLICE_S + SLICE_S)
    if last is not None:
        first = max(first, last + SLICE_S)
    return [reduce(stats.slices.get(start) or Slice(start)) for start in range(first, end, SLICE_S)]


def write(connection: Connection, slices: list[Slice]) -> None:
    """Write slices and add them to the longer steps; they follow what was written before, oldest first."""
    open_steps = {
        row.step_s: (row.starts_at, _sums.decode(row.sums)) for row in connection.execute(Q.open_steps)
    }
    rows: dict[tuple[int, int], Sums] = {}
    for found in slices:
        rows[SLICE_S, found.starts_at] = Sums(1, 0, found)
        gained = 0
        for step_s in KEPT_S:
            if step_s == SLICE_S:
                continue
            start = found.starts_at // step_s * step_s
            opened_at, sums = open_steps.get(step_s, (None, None))
            if sums is None or opened_at != start:
                sums = Sums(0, 0, Slice(start))
            sums.total.merge(found)
            sums.slices += 1
            if step_s == 60:
                gained = int(sums.is_available()) - sums.available
            sums.available += gained
            open_steps[step_s] = start, sums
            rows[step_s, start] = sums
    connection.execute(Q.write_sample, [_row(step_s, start, sums) for (step_s, start), sums in rows.items()])
    connection.execute(
        Q.write_open_step,
        [
            {"step_s": step_s, "starts_at": start, "sums": encode(sums)}
            for step_s, (start, sums) in open_steps.items()
        ],
    )


def _window(total: Slice, slices: int) -> Window:
    return Window(total.counts, total.histograms, float(slices * SLICE_S))


def _row(step_s: int, start: int, sums: Sums) -> dict[str, object]:
    figures = measure_all(_window(sums.total, sums.slices))
    return {"step_s": step_s, "starts_at": start, "available_minutes": sums.available, "figures": figures}


def prune(engine: Engine, now: float | None = None) -> int:
    """Delete the steps and start marks that are past their time; return how many steps."""
    now = time() if now is None else now
    with engine.begin() as connection:
        deleted = sum(
            connection.execute(Q.prune_samples, {"step_s": step_s, "before": now - kept_s}).rowcount
            for step_s, kept_s in KEPT_S.items()
        )
        connection.execute(Q.prune_starts, {"before": now - max(KEPT_S.values())})
    return deleted
