"""The monitor's figures as the performance API and the Python API show them: camelCase, formatted for people."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pulse.config import Config
from pulse.monitor import recorder, shared, targets
from pulse.monitor.histogram import Histogram
from pulse.monitor.queries import NO_ROUTE
from pulse.monitor.service import FIVE_MINUTES_S, ServiceStats
from pulse.monitor.snapshot import QueryRun, StatementFigures

SHOWN_STATEMENTS = 100
SHOWN_RUNS = 50


def ms(value: float) -> str:
    """Milliseconds: `45.23ms`."""
    return f"{value:.2f}ms"


def percent(part: float, whole: float) -> str:
    """A part of a whole: `1.84%`; nothing of nothing is `0.00%`."""
    return f"{100.0 * part / whole if whole else 0.0:.2f}%"


def megabytes(size: float) -> str:
    """A size given in bytes: `156.23 MB`."""
    return f"{size / 2**20:.2f} MB"


def iso(at: float | None) -> str | None:
    """An instant given in epoch seconds, as ISO 8601 in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def length(seconds: float) -> str:
    """A span of time: `1d 2h 3m 4s`."""
    left, parts = int(seconds), list[str]()
    for name, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{name}")
    return " ".join([*parts, f"{left}s"])


def get_query_stats(stats: ServiceStats | None = None) -> dict[str, Any]:
    """Figures of all queries of the whole service since the last reset, with the recent and the slowest runs."""
    stats = stats or shared.collect()
    times = stats.histograms.get(recorder.QUERY, Histogram())
    slow = stats.counts.get(recorder.QUERY_SLOW, 0)
    return {
        "totalQueries": times.count,
        "slowQueries": slow,
        "slowQueryPercentage": percent(slow, times.count),
        "averageDuration": ms(times.mean),
        "maxDuration": ms(times.max),
        **_quantiles(times),
        "errors": stats.counts.get(recorder.QUERY_ERRORS, 0),
        "since": iso(stats.since),
        "recentQueries": [_run(run) for run in stats.recent[:SHOWN_RUNS]],
        "topSlowQueries": [_run(run) for run in stats.slowest[:SHOWN_RUNS]],
    }


def _quantiles(times: Histogram) -> dict[str, str]:
    return {"p50": ms(times.quantile(0.5)), "p95": ms(times.quantile(0.95)), "p99": ms(times.quantile(0.99))}


def _run(run: QueryRun) -> dict[str, Any]:
    method, _, route = run.route.partition(" ") if run.route else (None, "", None)
    return {
        "name": run.name,
        "query": run.text,
        "duration": ms(run.duration_ms),
        "durationMs": round(run.duration_ms, 3),
        "timestamp": iso(run.at),
        "route": route,
        "method": method,
        "rows": max(run.rows, 0),
    }


def analyze_query_patterns(stats: ServiceStats | None = None) -> dict[str, Any]:
    """Queries by table, type and route, each with count, times and slow ones, most time first; and repeated ones."""
    stats = stats or shared.collect()
    tables: dict[str, _Sum] = {}
    types: dict[str, _Sum] = {}
    routes: dict[str, _Sum] = {}
    for found in stats.statements:
        for table in found.tables or ("(none)",):
            tables.setdefault(table, _Sum()).add(found.times.count, found.times.total, found.slow)
        types.setdefault(found.type, _Sum()).add(found.times.count, found.times.total, found.slow)
        for route, use in found.routes.items():
            routes.setdefault(route or NO_ROUTE, _Sum()).add(use.calls, use.total_ms, use.slow)
    repeated = sorted((found for found in stats.statements if found.repeated), key=lambda found: -found.repeated)
    return {
        "byTable": _shown(tables),
        "byType": _shown(types),
        "byRoute": _shown(routes),
        "repeated": [
            {"name": found.name, "query": found.text, "requests": found.repeated, "routes": sorted(found.routes)}
            for found in repeated[:20]
        ],
    }


class _Sum:
    def __init__(self) -> None:
        self.count, self.total_ms, self.slow = 0, 0.0, 0

    def add(self, count: int, total_ms: float, slow: int) -> None:
        self.count += count
        self.total_ms += total_ms
        self.slow += slow


def _shown(sums: dict[str, _Sum]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "count": found.count,
            "averageDuration": ms(found.total_ms / found.count if found.count else 0.0),
            "totalDuration": ms(found.total_ms),
            "slowQueries": found.slow,
            "slowQueryPercentage": percent(found.slow, found.count),
        }
        for name, found in sorted(sums.items(), key=lambda item: -item[1].total_ms)
    }


def list_statements(statements: Iterable[StatementFigures]) -> list[dict[str, Any]]:
    """Every statement with its figures, most time first; `share` is its part of all query time."""
    ordered = sorted(statements, key=lambda found: -found.times.total)
    everything = sum(found.times.total for found in ordered)
    return [
        {
            "name": found.name,
            "query": found.text,
            "type": found.type,
            "tables": list(found.tables),
            "calls": found.times.count,
            "totalDuration": ms(found.times.total),
            "totalMs": round(found.times.total, 3),
            "share": percent(found.times.total, everything),
            "averageDuration": ms(found.times.mean),
            "maxDuration": ms(found.times.max),
            **_quantiles(found.times),
            "rows": found.rows,
            "errors": found.errors,
            "slowQueries": found.slow,
            "repeatedInRequests": found.repeated,
            "routes": {
                route: {"calls": use.calls, "averageDuration": ms(use.total_ms / use.calls), "slowQueries": use.slow}
                for route, use in sorted(found.routes.items(), key=lambda item: -item[1].total_ms)
                if use.calls
            },
        }
        for found in ordered[:SHOWN_STATEMENTS]
    ]


def report_queries(stats: ServiceStats) -> dict[str, Any]:
    """The `queries` part."""
    return {
        "statistics": get_query_stats(stats),
        "patterns": analyze_query_patterns(stats),
        "statements": list_statements(stats.statements),
    }


def report_cache(stats: ServiceStats, local: dict[str, Any]) -> dict[str, Any]:
    """The `cache` part: `local` is what this process's cache says, its figures replaced by the whole service's."""
    namespaces = sorted(
        {name.removeprefix(shared.CACHE).rpartition("/")[0] for name in stats.counts if name.startswith(shared.CACHE)}
    )
    rows = {name: _cache_row(targets.cache_sums(stats.counts, name)) for name in namespaces}
    everything = {**local, **_cache_row(targets.cache_sums(stats.counts)), "byNamespace": rows}
    gauges = stats.gauges()
    for name, gauge in _CACHE_GAUGES.items():
        if gauge in gauges:
            everything[name] = int(gauges[gauge])
    return everything | _cache_sides(stats)


_CACHE_GAUGES = {"memoryCacheSize": "cache_keys", "memoryCacheBytes": "cache_bytes", "evictions": "cache_evictions"}
SHOWN_SIDES = 50


def _cache_sides(stats: ServiceStats) -> dict[str, Any]:
    """On which side each process's cache is: memory serves as long as one process can't reach Redis."""
    processes = [process for process in stats.processes if process.cache_sides]
    if not processes:
        return {}
    on_redis = [process for process in processes if process.cache_sides[-1].state == "redis"]
    history: list[dict[str, Any]] = [
        {"state": side.state, "at": side.at, "reason": side.reason, "node": process.node, "pid": process.pid}
        for process in processes
        for side in process.cache_sides
    ]
    last = [process.cache_sides[-1].at for process in processes]
    return {
        "isRedisAvailable": len(on_redis) == len(processes),
        "processes": len(processes),
        "processesOnRedis": len(on_redis),
        "failover": {
            "state": "redis" if len(on_redis) == len(processes) else "memory",
            "since": max(last),
            "history": sorted(history, key=lambda row: row["at"])[-SHOWN_SIDES:],
        },
    }


def _cache_row(sums: dict[str, int]) -> dict[str, Any]:
    helped = sums["hits"] + sums["stale"]
    return {**sums, "hitRate": percent(helped, helped + sums["misses"])}


def report_database(stats: ServiceStats, config: Config) -> dict[str, Any]:
    """The `database` part: the pools of all processes together and one by one."""
    pools = stats.pools()
    return {
        "totalConnections": pools.get("total", 0),
        "idleConnections": pools.get("idle", 0),
        "activeConnections": pools.get("in_use", 0),
        "waitingRequests": pools.get("waiting", 0),
        "acquireTimeouts": stats.counts.get(shared.POOL_TIMEOUTS, 0),
        "maxConnections": pools.get("max", 0),
        "utilizationPercentage": percent(pools.get("in_use", 0), pools.get("max", 0)),
        "poolConfig": {
            "max": config.database_pool_max,
            "min": config.database_pool_min,
            "acquireTimeoutMs": config.database_pool_acquire_timeout_ms,
            "idleTimeoutMs": config.database_pool_idle_timeout_ms,
        },
        "pools": [
            {"node": process.node, "pid": process.pid, "role": process.role, "name": name}
            | {_camel(key): value for key, value in pool.items()}
            for process in stats.processes
            for name, pool in sorted(process.pools.items())
        ],
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def report_system(stats: ServiceStats, config: Config) -> dict[str, Any]:
    """The `system` part; memory is that of all processes together (shared pages count once for each)."""
    sizes: dict[str, int] = {}
    for process in stats.processes:
        for name, size in process.memory.items():
            sizes[name] = sizes.get(name, 0) + size
    return {
        "environment": config.env,
        "queryMonitoringEnabled": config.enable_query_monitoring,
        "slowQueryThreshold": f"{config.slow_query_threshold_ms}ms",
        "redisEnabled": config.redis_url is not None,
        "uptime": length(stats.at - stats.service_started_at),
        "uptimeSeconds": round(stats.at - stats.service_started_at, 1),
        "statisticsSince": iso(stats.since),
        "memoryUsage": {name: megabytes(size) for name, size in sizes.items()},
        "nodes": sorted({process.node for process in stats.processes}),
        "workers": [
            {
                "node": process.node,
                "pid": process.pid,
                "role": process.role,
                "uptime": length(stats.at - process.started_at),
                "memory": megabytes(process.memory.get("rss", 0)),
                "lastSeen": iso(process.published_at),
            }
            for process in stats.processes
        ],
    }


def report_latency(stats: ServiceStats) -> dict[str, Any]:
    """The `latency` part: requests of the last 5 minutes by route, most requests first, and by group of targets."""
    window = stats.window(FIVE_MINUTES_S)
    routes = []
    everything = Histogram()
    for name, times in window.histograms.items():
        if name.startswith(recorder.REQUEST):
            key = name.removeprefix(recorder.REQUEST)
            method, _, route = key.partition(" ")
            failed = window.count(recorder.SERVER_ERRORS + key)
            refused = window.count(recorder.CLIENT_ERRORS + key)
            routes.append({"route": route, "method": method, **_load(times, failed, refused, window.covered_s)})
            everything.merge(times)
    groups = (targets.SINGLE, targets.BATCH, targets.HISTORICAL, targets.REALTIME)
    blocked = window.histogram(shared.HUB_BLOCK)
    return {
        "windowSeconds": round(window.covered_s, 1),
        "overall": _load(
            everything,
            sum(row["errors"] for row in routes),
            sum(row["clientErrors"] for row in routes),
            window.covered_s,
        ),
        "groups": {group: {"requests": times.count, **_quantiles(times)} for group in groups
                   if (times := targets.requests_of(window, group)).count},
        "routes": sorted(routes, key=lambda row: -row["requests"]),
        "eventLoopBlocked": {"times": blocked.count, "p99": ms(blocked.quantile(0.99)), "max": ms(blocked.max)},
    }  # fmt: skip


def _load(times: Histogram, failed: int, refused: int, covered_s: float) -> dict[str, Any]:
    return {
        "requests": times.count,
        "requestsPerSecond": round(times.count / covered_s, 2),
        "errors": failed,
        "clientErrors": refused,
        "errorRate": percent(failed, times.count),
        "averageDuration": ms(times.mean),
        **_quantiles(times),
    }


def report_ingestion(stats: ServiceStats) -> dict[str, Any]:
    """The `ingestion` part: events a second, group commits and folding over 5 minutes; counts since the last reset."""
    window = stats.window(FIVE_MINUTES_S)
    groups, flushes = window.histogram(targets.GROUP_EVENTS), window.histogram(targets.GROUP_MS)
    prefix = "ingest_dropped_"
    return {
        "events": int(stats.histograms.get(targets.GROUP_EVENTS, Histogram()).total),
        "eventsPerSecond": round(groups.total / window.covered_s, 2),
        "groupCommits": groups.count,
        "eventsPerGroup": {
            "average": round(groups.mean, 1),
            "p95": round(groups.quantile(0.95)),
            "max": int(groups.max),
        },
        "groupCommitDuration": {"averageDuration": ms(flushes.mean), **_quantiles(flushes)},
        "foldDuration": _quantiles(window.histogram("fold_ms")),
        "refused": stats.counts.get(targets.REFUSED, 0),
        "dropped": {k.removeprefix(prefix): v for k, v in sorted(stats.counts.items()) if k.startswith(prefix)},
        "gauges": {_camel(name): value for name, value in sorted(stats.gauges().items())},
    }
