"""One figure over time, from the slices of the last five minutes and the minutes of the last hour."""

from collections.abc import Callable

import msgspec

from pulse.errors import Detail, Invalid
from pulse.monitor import recorder, targets
from pulse.monitor.histogram import Histogram
from pulse.monitor.meter import MINUTE_S, MINUTES, SLICE_S, SLICES
from pulse.monitor.report import iso
from pulse.monitor.service import ServiceStats, Window

RANGES = {"5m": (SLICE_S, SLICES), "1h": (MINUTE_S, MINUTES)}


class Point(msgspec.Struct, frozen=True):
    """The figure of one step; null where nothing was measured."""

    at: str
    value: float | None


class History(msgspec.Struct, rename="camel", frozen=True):
    """The points of a range, oldest first, without gaps; `step_seconds` apart."""

    metric: str
    unit: str
    range: str
    step_seconds: int
    points: list[Point]


def _requests(window: Window) -> Histogram:
    return window.histogram(*(name for name in window.histograms if name.startswith(recorder.REQUEST)))


def _quantile(part: float) -> Callable[[Window], float | None]:
    def measure(window: Window) -> float | None:
        found = _requests(window)
        return found.quantile(part) if found.count else None

    return measure


def _first(measure: Callable[[Window], targets.Measured]) -> Callable[[Window], float | None]:
    return lambda window: measure(window)[0]


# A rate without anything is nought; a time or a share without anything is not known.
METRICS: dict[str, tuple[str, Callable[[Window], float | None]]] = {
    "requestsPerSecond": ("/s", lambda window: _requests(window).count / window.covered_s),
    "eventsPerSecond": ("/s", lambda window: targets.events_per_s(window)[0] or 0.0),
    "queriesPerSecond": ("/s", lambda window: window.histogram(recorder.QUERY).count / window.covered_s),
    "errorRate": ("%", _first(targets.all_errors_percent)),
    "p50": ("ms", _quantile(0.5)),
    "p95": ("ms", _quantile(0.95)),
    "p99": ("ms", _quantile(0.99)),
    "averageQuery": ("ms", _first(targets.query_average)),
    "slowQueries": ("%", _first(targets.slow_percent)),
    "cacheHits": ("%", _first(targets.cache_hit_percent)),
    "poolUsed": ("%", _first(targets.pool_percent)),
}


def series(stats: ServiceStats, metric: str, chosen: str) -> History:
    """One metric over a range. Raises Invalid naming `metric` or `range`."""
    if metric not in METRICS:
        raise Invalid("There is no such metric.", details=[Detail("metric", "one of " + ", ".join(METRICS))])
    if chosen not in RANGES:
        raise Invalid("There is no such range.", details=[Detail("range", "one of " + ", ".join(RANGES))])
    unit, measure = METRICS[metric]
    step_s, steps = RANGES[chosen]
    slices = stats.slices if step_s == SLICE_S else stats.minutes
    last = int(stats.at) // step_s * step_s
    points = []
    for start in range(last - (steps - 1) * step_s, last + 1, step_s):
        value = None
        if start + step_s > stats.since:
            found = slices.get(start)
            covered_s = max(min(stats.at, start + step_s) - max(start, stats.since), 1.0)
            window = Window(found.counts, found.histograms, covered_s) if found else Window({}, {}, covered_s)
            value = measure(window)
        points.append(Point(iso(start) or "", None if value is None else round(value, 3)))
    return History(metric, unit, chosen, step_s, points)
