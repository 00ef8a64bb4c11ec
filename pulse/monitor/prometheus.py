"""The figures of the whole service in Prometheus' text format, the same whichever worker is asked."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pulse.monitor import recorder, shared, targets
from pulse.monitor.alerts import RULES, State
from pulse.monitor.histogram import Histogram
from pulse.monitor.measures import READY
from pulse.monitor.service import ServiceStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Powers of two from 0.125 ms to 32 s: edges of our buckets, at which the counts are exact.
_EDGES_MS = tuple(2.0**power for power in range(-3, 16))
# Counters stand there from the start: Prometheus sees no growth where a series begins with its first event.
EVENTS = (
    targets.REFUSED, "ingest_dropped_bot", "folded_events", "spool_refused_events", "spool_damaged_files",
    shared.POOL_TIMEOUTS, READY,
)  # fmt: skip
_OUTCOMES = ("hits", "misses", "stale", "failures")


def render(stats: ServiceStats, state: State | None = None, routes: Iterable[str] = ()) -> bytes:
    """Write all metrics; counters begin again at a reset, which Prometheus takes for a restart.

    `state`: where the service stands, for alerts and availability. `routes`: every `METHOD /rule` there is.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ServiceCollector(stats, state or State(), routes))
    return generate_latest(registry)


class _ServiceCollector(Collector):
    def __init__(self, stats: ServiceStats, state: State, routes: Iterable[str]) -> None:
        self._stats = stats
        self._state = state
        self._routes = routes

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from _requests(self._stats, self._routes)
        yield from _queries(self._stats)
        yield from _cache(self._stats)
        yield from _processes(self._stats)
        yield from _others(self._stats)
        yield from _targets(self._stats)
        yield from _standing(self._state)


def _buckets(times: Histogram) -> list[tuple[str, float]]:
    found = [(f"{edge / 1000:g}", float(times.count_up_to(edge))) for edge in _EDGES_MS]
    return [*found, ("+Inf", float(times.count))]


def _requests(stats: ServiceStats, routes: Iterable[str]) -> Iterator[Metric]:
    labels = ["method", "route"]
    name = "pulse_http_request_duration_seconds"
    times = HistogramMetricFamily(name, "Duration of answered requests.", labels=labels)
    for name, found in stats.histograms.items():
        if name.startswith(recorder.REQUEST):
            values = list(name.removeprefix(recorder.REQUEST).partition(" ")[::2])
            times.add_metric(values, _buckets(found), found.total / 1000)
    yield times
    asked = [name.removeprefix(recorder.REQUEST) for name in stats.histograms if name.startswith(recorder.REQUEST)]
    for prefix, kind, text in (
        (recorder.SERVER_ERRORS, "server", "Requests that failed here (5xx)."),
        (recorder.CLIENT_ERRORS, "client", "Requests that were refused (4xx)."),
    ):
        errors = CounterMetricFamily(f"pulse_http_{kind}_errors", text, labels=labels)
        counted = {name.removeprefix(prefix): n for name, n in stats.counts.items() if name.startswith(prefix)}
        for key, count in {**dict.fromkeys([*routes, *asked], 0), **counted}.items():
            errors.add_metric(list(key.partition(" ")[::2]), count)
        yield errors


def _queries(stats: ServiceStats) -> Iterator[Metric]:
    # Statements without a block name would bring their text as a label value.
    named = [found for found in stats.statements if found.name != found.text and not found.name.endswith("…")]
    times = HistogramMetricFamily("pulse_query_duration_seconds", "Duration of all statements.")
    total = stats.histograms.get(recorder.QUERY, Histogram())
    times.add_metric([], _buckets(total), total.total / 1000)
    yield times
    yield CounterMetricFamily(
        "pulse_slow_queries", "Statements over the threshold.", value=stats.counts.get(recorder.QUERY_SLOW, 0)
    )
    yield CounterMetricFamily(
        "pulse_query_errors", "Statements that failed.", value=stats.counts.get(recorder.QUERY_ERRORS, 0)
    )
    calls = CounterMetricFamily("pulse_statement_calls", "Runs of each named statement.", labels=["statement"])
    spent = CounterMetricFamily("pulse_statement_seconds", "Time of each named statement.", labels=["statement"])
    by_name: dict[str, tuple[int, float]] = {}
    for found in named:
        count, total_ms = by_name.get(found.name, (0, 0.0))
        by_name[found.name] = (count + found.times.count, total_ms + found.times.total)
    for name, (count, total_ms) in by_name.items():
        calls.add_metric([name], count)
        spent.add_metric([name], total_ms / 1000)
    yield from (calls, spent)


def _cache(stats: ServiceStats) -> Iterator[Metric]:
    lookups = CounterMetricFamily("pulse_cache_lookups", "Cache look-ups by outcome.", labels=["namespace", "outcome"])
    counted = [name for name in stats.counts if name.startswith(shared.CACHE)]
    for namespace in sorted({name.removeprefix(shared.CACHE).rpartition("/")[0] for name in counted}):
        for outcome in _OUTCOMES:
            lookups.add_metric([namespace, outcome], stats.counts.get(f"{shared.CACHE}{namespace}/{outcome}", 0))
    yield lookups


def _processes(stats: ServiceStats) -> Iterator[Metric]:
    labels = ["node", "pid", "role"]
    memory = GaugeMetricFamily("pulse_process_resident_memory_bytes", "Resident memory.", labels=labels)
    pools = GaugeMetricFamily("pulse_pool_connections", "Pool connections.", labels=[*labels, "pool", "state"])
    sides = GaugeMetricFamily("pulse_cache_on_redis", "1 while the process's cache is on Redis.", labels=labels)
    for process in stats.processes:
        who = [process.node, str(process.pid), process.role]
        if process.cache_sides:
            sides.add_metric(who, 1.0 if process.cache_sides[-1].state == "redis" else 0.0)
        memory.add_metric(who, process.memory.get("rss", 0))
        for pool, row in process.pools.items():
            for state, count in row.items():
                pools.add_metric([*who, pool, state], count)
    yield from (memory, pools, sides)
    utilization = stats.pools()
    if utilization.get("max"):
        share = utilization["in_use"] / utilization["max"]
        yield GaugeMetricFamily("pulse_pool_utilization_ratio", "Connections in use, of all pools.", value=share)
    yield GaugeMetricFamily(
        "pulse_start_time_seconds", "When the service was started.", value=stats.service_started_at
    )


def _others(stats: ServiceStats) -> Iterator[Metric]:
    known = (recorder.REQUEST, recorder.SERVER_ERRORS, recorder.CLIENT_ERRORS, shared.CACHE, recorder.QUERY)
    counts = CounterMetricFamily("pulse_events", "Things that happened, by name.", labels=["name"])
    for name, count in {**dict.fromkeys(EVENTS, 0), **stats.counts}.items():
        if not name.startswith(known):
            counts.add_metric([name], count)
    yield counts
    values = GaugeMetricFamily("pulse_present_value", "Present values, by name.", labels=["name"])
    for name, value in stats.gauges().items():
        values.add_metric([name], value)
    yield values
    sizes = HistogramMetricFamily("pulse_observed", "Sizes and times (ms where so named), by name.", labels=["name"])
    for name, found in stats.histograms.items():
        if not name.startswith(known):
            edges = [(f"{edge:g}", float(found.count_up_to(edge))) for edge in _EDGES_MS]
            sizes.add_metric([name], [*edges, ("+Inf", float(found.count))], found.total)
    yield sizes


def _targets(stats: ServiceStats) -> Iterator[Metric]:
    met = GaugeMetricFamily("pulse_target_met", "1 met, 0 missed, over 5 minutes.", labels=["target"])
    actual = GaugeMetricFamily("pulse_target_actual", "The figure, in the target's unit.", labels=["target", "unit"])
    for result in targets.evaluate(stats):
        if result.status != "noData":
            met.add_metric([result.id], 1.0 if result.status == "met" else 0.0)
        if result.five_minutes.value is not None:
            actual.add_metric([result.id, result.unit], result.five_minutes.value)
    yield from (met, actual)


def _standing(state: State) -> Iterator[Metric]:
    firing = GaugeMetricFamily("pulse_alert_firing", "1 while an alert of the service's own fires.", labels=["rule"])
    for rule in RULES:
        seen = state.rules.get(rule.name)
        firing.add_metric([rule.name], 1.0 if seen is not None and seen.firing is not None else 0.0)
    yield firing
    share = GaugeMetricFamily("pulse_availability_ratio", "Available minutes of all minutes.", labels=["window"])
    if state.availability is not None:
        for window, span in (("24h", state.availability.day), ("30d", state.availability.month)):
            if span.percent is not None:
                share.add_metric([window], span.available_minutes / span.minutes)
    yield share
