"""The metrics that have a history: how each is measured over a window, live or out of what was kept."""

from collections.abc import Callable

from pulse.monitor import recorder, targets
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import Window
from pulse.monitor.shared import CACHE, FOLD_LAG, HUB_BLOCK, POOL_USED
from pulse.monitor.snapshot import Slice

Measure = Callable[[Window], float | None]
# Counted by the background worker whenever it saw that the service can do its work.
READY = "ready"


def _requests(window: Window) -> Histogram:
    return window.histogram(*(name for name in window.histograms if name.startswith(recorder.REQUEST)))


def _quantile(part: float, of: Callable[[Window], Histogram]) -> Measure:
    def measure(window: Window) -> float | None:
        found = of(window)
        return found.quantile(part) if found.count else None

    return measure


def _of_group(group: str) -> Callable[[Window], Histogram]:
    return lambda window: targets.requests_of(window, group)


def _named(name: str) -> Callable[[Window], Histogram]:
    return lambda window: window.histogram(name)


def _first(measure: Callable[[Window], targets.Measured]) -> Measure:
    return lambda window: measure(window)[0]


def _largest(name: str) -> Measure:
    def measure(window: Window) -> float | None:
        found = window.histogram(name)
        return found.max if found.count else None

    return measure


# A rate without anything is nought; a time or a share without anything is not known.
# The order is that of the stored figures: new metrics go to the end.
METRICS: dict[str, tuple[str, Measure]] = {
    "requestsPerSecond": ("/s", lambda window: _requests(window).count / window.covered_s),
    "eventsPerSecond": ("/s", lambda window: targets.events_per_s(window)[0] or 0.0),
    "queriesPerSecond": ("/s", lambda window: window.histogram(recorder.QUERY).count / window.covered_s),
    "errorRate": ("%", _first(targets.all_errors_percent)),
    "p50": ("ms", _quantile(0.5, _requests)),
    "p95": ("ms", _quantile(0.95, _requests)),
    "p99": ("ms", _quantile(0.99, _requests)),
    "averageQuery": ("ms", _first(targets.query_average)),
    "slowQueries": ("%", _first(targets.slow_percent)),
    "cacheHits": ("%", _first(targets.cache_hit_percent)),
    "poolUsed": ("%", _first(targets.pool_percent)),
    "ingestP99": ("ms", _quantile(0.99, _of_group(targets.SINGLE))),
    "batchP99": ("ms", _quantile(0.99, _of_group(targets.BATCH))),
    "reportP99": ("ms", _quantile(0.99, _of_group(targets.HISTORICAL))),
    "realtimeP99": ("ms", _quantile(0.99, _of_group(targets.REALTIME))),
    "queryP99": ("ms", _quantile(0.99, _named(recorder.QUERY))),
    "groupCommitP99": ("ms", _quantile(0.99, _named(targets.GROUP_MS))),
    "foldLag": ("s", _largest(FOLD_LAG)),
    "eventLoopBlockedP99": ("ms", _quantile(0.99, _named(HUB_BLOCK))),
    "poolPeak": ("%", _first(targets.pool_peak_percent)),
}
NAMES = tuple(METRICS)

# One route stands for each group of targets, so that what is kept is measured by the same functions.
_STAND_INS = {
    targets.SINGLE: "POST /track/event",
    targets.BATCH: "POST /track/batch",
    targets.HISTORICAL: "GET /projects/<id>/analytics",
    targets.REALTIME: "GET /projects/<id>/realtime",
    None: "GET (other)",
}
_KEPT_HISTOGRAMS = frozenset({recorder.QUERY, targets.GROUP_EVENTS, targets.GROUP_MS, POOL_USED, HUB_BLOCK, FOLD_LAG})
_KEPT_COUNTS = frozenset({recorder.QUERY_SLOW, targets.REFUSED, READY})


def reduce(found: Slice) -> Slice:
    """A slice with what the metrics need alone (under 2 KB encoded), however many routes and namespaces there are."""
    kept = Slice(found.starts_at)
    for name, count in found.counts.items():
        if name.startswith((recorder.SERVER_ERRORS, CACHE)):
            short = _short(name)
            kept.counts[short] = kept.counts.get(short, 0) + count
        elif name in _KEPT_COUNTS:
            kept.counts[name] = count
    for name, histogram in found.histograms.items():
        if name.startswith(recorder.REQUEST):
            kept.histograms.setdefault(_short(name), Histogram()).merge(histogram)
        elif name in _KEPT_HISTOGRAMS:
            kept.histograms[name] = histogram
    return kept


def _short(name: str) -> str:
    if name.startswith(CACHE):
        return f"{CACHE}all/{name.rpartition('/')[2]}"
    prefix = recorder.REQUEST if name.startswith(recorder.REQUEST) else recorder.SERVER_ERRORS
    return prefix + _STAND_INS[targets.group_of(name.removeprefix(prefix))]


def measure_all(window: Window) -> list[float | None]:
    """Every metric of a window, in the order of METRICS."""
    return [measure(window) for _, measure in METRICS.values()]
