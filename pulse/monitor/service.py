"""The figures of the whole service: the snapshots of its processes added up."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

from pulse.monitor.histogram import Histogram
from pulse.monitor.meter import MINUTE_S, MINUTES, RECENT_S, SLICE_S
from pulse.monitor.queries import RECENT, SLOWEST
from pulse.monitor.snapshot import CacheSide, QueryRun, Slice, Snapshot, StatementFigures, encode_slices, merge_slices

FIVE_MINUTES_S = 300
HOUR_S = 3600
_LARGEST = ("_s", "_ms", "_percent", "_at")


@dataclass(slots=True)
class Window:
    """What happened in the last `covered_s` seconds (less than asked for soon after a start or a reset)."""

    counts: dict[str, int]
    histograms: dict[str, Histogram]
    covered_s: float

    def count(self, *names: str) -> int:
        """The sum of some counts."""
        return sum(self.counts.get(name, 0) for name in names)

    def histogram(self, *names: str) -> Histogram:
        """Some histograms as one."""
        found = Histogram()
        for name in names:
            if name in self.histograms:
                found.merge(self.histograms[name])
        return found


@dataclass(slots=True)
class Process:
    """One living process; `memory` in bytes, `pools` as counts of connections, `node` names where it runs."""

    pid: int
    role: str
    started_at: float
    published_at: float
    pools: dict[str, dict[str, int]]
    gauges: dict[str, float]
    memory: dict[str, int]
    cache_sides: list[CacheSide] = field(default_factory=list)
    node: str = ""


class NodeFigures(msgspec.Struct):
    """One node for the others: all its processes' figures as one snapshot, and the living processes."""

    name: str
    figures: Snapshot
    processes: list[Process]


@dataclass(slots=True)
class ServiceStats:
    """All processes as one, from `since` (epoch seconds of the last reset or the start) to `at`."""

    at: float
    since: float
    generation: int = 0
    service_started_at: float = 0.0
    processes: list[Process] = field(default_factory=list)
    statements: list[StatementFigures] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    recent: list[QueryRun] = field(default_factory=list)
    slowest: list[QueryRun] = field(default_factory=list)
    slices: dict[int, Slice] = field(default_factory=dict)
    minutes: dict[int, Slice] = field(default_factory=dict)

    def window(self, seconds: int) -> Window:
        """The last seconds: from slices of 10 s up to five minutes, from minutes beyond."""
        slices, step_s = (self.slices, SLICE_S) if seconds <= FIVE_MINUTES_S else (self.minutes, MINUTE_S)
        # The oldest slice, of which only a part is inside, is left out.
        first = (int(self.at) - seconds) // step_s * step_s + step_s
        merged = Slice(0)
        for start, found in slices.items():
            if start >= first:
                merged.merge(found)
        return Window(merged.counts, merged.histograms, max(self.at - max(first, self.since), 1.0))

    def pools(self) -> dict[str, int]:
        """The connections of all processes' pools together."""
        found: dict[str, int] = {}
        for process in self.processes:
            for pool in process.pools.values():
                for name, count in pool.items():
                    found[name] = found.get(name, 0) + count
        return found

    def gauges(self) -> dict[str, float]:
        """The present values: sums, or the largest where the name ends in a unit of time or in percent."""
        found: dict[str, float] = {}
        for process in self.processes:
            for name, value in process.gauges.items():
                if name not in found:
                    found[name] = value
                else:
                    found[name] = max(found[name], value) if name.endswith(_LARGEST) else found[name] + value
        return found


def add_up(
    snapshots: list[Snapshot], at: float, node: str = "", others: Iterable[NodeFigures] = ()
) -> ServiceStats:
    """Merge snapshots of one generation; those of pid 0 are of processes that have ended, or of other nodes'."""
    others = list(others)
    snapshots = [*snapshots, *(other.figures for other in others)]
    stats = ServiceStats(at=at, since=min((s.since for s in snapshots), default=at))
    statements: dict[tuple[str, str], StatementFigures] = {}
    totals = Slice(0)
    for snapshot in snapshots:
        stats.generation = snapshot.generation
        for figures in snapshot.statements:
            mine = statements.get((figures.name, figures.text))
            if mine is None:
                statements[figures.name, figures.text] = figures
            else:
                mine.merge(figures)
        totals.merge(Slice(0, snapshot.counts, snapshot.histograms))
        for run in [*snapshot.recent, *snapshot.slowest]:
            if 0 <= run.statement < len(snapshot.statements):
                found = snapshot.statements[run.statement]
                run.name, run.text = found.name, found.text
        stats.recent += snapshot.recent
        stats.slowest += snapshot.slowest
        merge_slices(stats.slices, snapshot.slices, at - RECENT_S)
        merge_slices(stats.minutes, snapshot.minutes, at - MINUTE_S * (MINUTES + 1))
        if snapshot.pid:
            stats.processes.append(
                Process(snapshot.pid, snapshot.role, snapshot.started_at, snapshot.published_at, snapshot.pools,
                        snapshot.gauges, snapshot.memory, snapshot.cache_sides, node)
            )  # fmt: skip
    for other in others:
        stats.processes += [replace(process, node=other.name) for process in other.processes]
    stats.statements = sorted(statements.values(), key=lambda found: -found.times.total)
    stats.counts, stats.histograms = totals.counts, totals.histograms
    stats.recent = sorted(stats.recent, key=lambda run: -run.at)[:RECENT]
    stats.slowest = sorted(stats.slowest, key=lambda run: -run.duration_ms)[:SLOWEST]
    stats.processes.sort(key=lambda process: (process.node, process.role, process.pid))
    stats.service_started_at = min((p.started_at for p in stats.processes), default=at)
    return stats


def freeze(stats: ServiceStats, folded: list[str]) -> Snapshot:
    """The figures of ended processes as one snapshot: counts, but nothing that belongs to a living process."""
    statements = stats.statements[:1000]
    places = {(found.name, found.text): place for place, found in enumerate(statements)}
    for run in [*stats.recent, *stats.slowest]:
        run.statement = places.get((run.name, run.text), -1)
        run.name = run.text = ""
    return Snapshot(
        pid=0,
        started_at=0.0,
        role="departed",
        generation=stats.generation,
        since=stats.since,
        published_at=stats.at,
        statements=statements,
        counts=stats.counts,
        histograms=stats.histograms,
        recent=stats.recent,
        slowest=stats.slowest,
        slices=encode_slices(stats.slices),
        minutes=encode_slices(stats.minutes),
        folded=folded,
    )
