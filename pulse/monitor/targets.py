"""The targets of the service, each with what it really does over the last 5 minutes and the last hour."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from pulse.monitor import recorder
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import FIVE_MINUTES_S, HOUR_S, ServiceStats, Window
from pulse.monitor.shared import CACHE, POOL_USED

SINGLE, BATCH, HISTORICAL, REALTIME = "single", "batch", "historical", "realtime"
GROUP_EVENTS, GROUP_MS = "ingest_group_events", "ingest_group_ms"
REFUSED = "ingest_refused"

_GROUPS = (
    (re.compile(r"POST .*/track/event"), SINGLE),
    (re.compile(r"POST .*/track/batch"), BATCH),
    (re.compile(r"GET .*/projects/<[^>]+>/realtime"), REALTIME),
    (re.compile(r"GET .*/projects/<[^>]+>/(?:analytics|events|campaigns(?:/\w+)?|goals)"), HISTORICAL),
    (re.compile(r"POST .*/projects/<[^>]+>/goals/funnel"), HISTORICAL),
)
# Fewer samples than a target's `min_samples` are shown and not judged. So that one of them alone decides nothing, a p99
# and a share of 1 % take a hundred; a cache that has just begun misses everything once.
FEW, MANY, LOOK_UPS, POOL_LOOKS = 20, 100, 200, 10
# From here on the pool is under load: fewer requests say nothing about its size.
LOAD_REQUESTS_PER_S = 50.0

Status = Literal["met", "missed", "noData"]
Measured = tuple[float | None, int]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the target board: what is measured, its unit (`ms`, `%`, `/s`) and where it has to be."""

    id: str
    area: str
    name: str
    unit: str
    measure: Callable[[Window], Measured]
    below: float | None = None
    above: float | None = None
    note: str | None = None
    min_samples: int = FEW

    @property
    def text(self) -> str:
        """The target as people write it."""
        if self.below is not None and self.above is not None:
            return f"{self.above:g} to {self.below:g} {self.unit}"
        if self.below is not None:
            return f"< {self.below:g} {self.unit}"
        return f"> {self.above:g} {self.unit}" if self.unit == "%" else f"{self.above:,.0f}{self.unit}"


class Actual(msgspec.Struct, rename="camel", frozen=True):
    """What was measured in one window: the value, how it reads, from how many samples, and whether it is enough."""

    value: float | None
    display: str
    samples: int
    status: Status


class TargetResult(msgspec.Struct, rename="camel", frozen=True):
    """One target with its live actuals; `status` is that of the last five minutes, `since` when it became so.

    `noData` is also the status of fewer than `min_samples` samples, and of a pool with more connections than needed.
    """

    id: str
    area: str
    name: str
    target: str
    unit: str
    five_minutes: Actual
    one_hour: Actual
    status: Status
    note: str | None = None
    min_samples: int = FEW
    since: str | None = None


def group_of(key: str) -> str | None:
    """The group of a `METHOD /rule` that has targets, None for the others."""
    return next((group for pattern, group in _GROUPS if pattern.fullmatch(key)), None)


def _keys(window: Window, groups: Iterable[str]) -> list[str]:
    wanted = set(groups)
    names = (name.removeprefix(recorder.REQUEST) for name in window.histograms if name.startswith(recorder.REQUEST))
    return [key for key in names if group_of(key) in wanted]


def requests_of(window: Window, *groups: str) -> Histogram:
    """The durations of a group's requests, in milliseconds."""
    return window.histogram(*(recorder.REQUEST + key for key in _keys(window, groups)))


def _quantile(group: str, part: float) -> Callable[[Window], Measured]:
    def measure(window: Window) -> Measured:
        found = requests_of(window, group)
        return (found.quantile(part) if found.count else None), found.count

    return measure


def _error_percent(*groups: str) -> Callable[[Window], Measured]:
    def measure(window: Window) -> Measured:
        keys = _keys(window, groups)
        requests = window.histogram(*(recorder.REQUEST + key for key in keys)).count
        errors = window.count(*(recorder.SERVER_ERRORS + key for key in keys))
        return (100.0 * errors / requests if requests else None), requests

    return measure


def all_errors_percent(window: Window) -> Measured:
    """Requests of any route that failed here (status 500 and over), in percent."""
    requests = sum(h.count for name, h in window.histograms.items() if name.startswith(recorder.REQUEST))
    errors = sum(count for name, count in window.counts.items() if name.startswith(recorder.SERVER_ERRORS))
    return (100.0 * errors / requests if requests else None), requests


def events_per_s(window: Window) -> Measured:
    """Events stored a second; None without any."""
    found = window.histogram(GROUP_EVENTS)
    return (found.total / window.covered_s if found.count else None), int(found.total)


def cache_hit_percent(window: Window) -> Measured:
    """Answers that cost no computation, in percent of all cache look-ups."""
    sums = cache_sums(window.counts)
    helped, missed = sums["hits"] + sums["stale"], sums["misses"]
    return (100.0 * helped / (helped + missed) if helped + missed else None), helped + missed


def cache_sums(counts: dict[str, int], namespace: str | None = None) -> dict[str, int]:
    """The cache's hits, misses, stale answers and failures, of one namespace or of all."""
    sums = {"hits": 0, "misses": 0, "stale": 0, "failures": 0}
    for name, count in counts.items():
        if name.startswith(CACHE):
            where, _, what = name.removeprefix(CACHE).rpartition("/")
            if namespace in (None, where) and what in sums:
                sums[what] += count
    return sums


def query_average(window: Window) -> Measured:
    """The mean duration of a statement, in milliseconds."""
    found = window.histogram(recorder.QUERY)
    return (found.mean if found.count else None), found.count


def slow_percent(window: Window) -> Measured:
    """Statements over the threshold, in percent of all."""
    queries = window.histogram(recorder.QUERY).count
    return (100.0 * window.count(recorder.QUERY_SLOW) / queries if queries else None), queries


def pool_percent(window: Window) -> Measured:
    """The part of the connections that was in use, in percent, averaged over samples taken twice a second."""
    found = window.histogram(POOL_USED)
    return (found.mean if found.count else None), found.count


def pool_peak_percent(window: Window) -> Measured:
    """What the fullest tenth of those samples reaches, in percent: one full process among idle ones shows."""
    found = window.histogram(POOL_USED)
    return (found.quantile(0.9) if found.count else None), found.count


def _pool_under_load(window: Window) -> Measured:
    requests = sum(h.count for name, h in window.histograms.items() if name.startswith(recorder.REQUEST))
    if requests / window.covered_s < LOAD_REQUESTS_PER_S:
        return None, 0
    return pool_percent(window)


TARGETS = (
    Target("ingest.events", "ingestion", "events stored", "/s", events_per_s, above=10_000, min_samples=1,
           note="met when that much was sent and stored; missed when events had to be refused"),
    Target("ingest.single.p50", "ingestion", "single event p50", "ms", _quantile(SINGLE, 0.5), below=25),
    Target("ingest.single.p95", "ingestion", "single event p95", "ms", _quantile(SINGLE, 0.95), below=40),
    Target("ingest.single.p99", "ingestion", "single event p99", "ms", _quantile(SINGLE, 0.99), below=50,
           min_samples=MANY),
    Target("ingest.batch.p99", "ingestion", "batch of up to 100 p99", "ms", _quantile(BATCH, 0.99), below=100,
           min_samples=MANY),
    Target("ingest.errors", "ingestion", "errors", "%", _error_percent(SINGLE, BATCH), below=1, min_samples=MANY),
    Target("reports.historical.p50", "reports", "historical p50", "ms", _quantile(HISTORICAL, 0.5), below=100),
    Target("reports.historical.p95", "reports", "historical p95", "ms", _quantile(HISTORICAL, 0.95), below=150),
    Target("reports.historical.p99", "reports", "historical p99", "ms", _quantile(HISTORICAL, 0.99), below=200,
           min_samples=MANY),
    Target("reports.realtime.p99", "reports", "real-time p99", "ms", _quantile(REALTIME, 0.99), below=100,
           min_samples=MANY),
    Target("reports.cache_hits", "reports", "cache hits", "%", cache_hit_percent, above=80, min_samples=LOOK_UPS),
    Target("reports.errors", "reports", "errors", "%", _error_percent(HISTORICAL, REALTIME), below=1,
           min_samples=MANY),
    Target("database.query_average", "database", "query average", "ms", query_average, below=50),
    Target("database.slow_queries", "database", "slow queries", "%", slow_percent, below=2, min_samples=MANY),
    Target("database.pool", "database", "pool used under load", "%", _pool_under_load, below=80, above=50,
           min_samples=POOL_LOOKS,
           note=f"measured while {LOAD_REQUESTS_PER_S:g} or more requests a second come in"),
)  # fmt: skip


def evaluate(stats: ServiceStats) -> list[TargetResult]:
    """Every target with its actuals, in the order of the board."""
    short, long = stats.window(FIVE_MINUTES_S), stats.window(HOUR_S)
    results = []
    for target in TARGETS:
        now, hour = _judge(target, short), _judge(target, long)
        about = (target.id, target.area, target.name, target.text, target.unit)
        results.append(TargetResult(*about, now, hour, now.status, target.note, target.min_samples))
    return results


def _judge(target: Target, window: Window) -> Actual:
    value, samples = target.measure(window)
    status: Status
    if target.id == "ingest.events":
        status = _judge_rate(target, window, value)
    elif value is None or samples < target.min_samples or is_more_than_needed(target, value):
        status = "noData"
    else:
        status = "met" if _is_within(target, value) else "missed"
    return Actual(None if value is None else round(value, 2), show(value, target.unit), samples, status)


def is_more_than_needed(target: Target, value: float) -> bool:
    """Tell whether a pool is used less than it may be: this load needs fewer connections, and nobody waits for one."""
    return target.above is not None and target.below is not None and value < target.above


def _is_within(target: Target, value: float) -> bool:
    if target.above is not None and target.below is not None:
        return target.above <= value <= target.below
    if target.below is not None:
        return value < target.below
    return target.above is not None and value > target.above


def _judge_rate(target: Target, window: Window, value: float | None) -> Status:
    if value is not None and target.above is not None and value >= target.above:
        return "met"
    # Fewer events than the service can take are no miss; events turned away are.
    return "missed" if window.count(REFUSED) else "noData"


def show(value: float | None, unit: str) -> str:
    """A figure as people read it."""
    if value is None:
        return "no data"
    return f"{value:,.1f}/s" if unit == "/s" else f"{value:.2f}{unit}"
