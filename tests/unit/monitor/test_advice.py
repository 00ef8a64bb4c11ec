"""Advice names what is wrong, the figure behind it and what to do."""

from dataclasses import replace

from pulse.config import Config
from pulse.monitor.advice import Advice, advise
from pulse.monitor.database import BlockedQuery, RunningQuery, ServerFigures
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import Process, ServiceStats
from pulse.monitor.snapshot import CacheSide, RouteUse, Slice, StatementFigures

NOW = 1_000_000
REPORT = "GET /api/v1/projects/<int:project_id>/analytics"


def _times(*values: float) -> Histogram:
    times = Histogram()
    for value in values:
        times.add(value)
    return times


def _stats(histograms: dict[str, Histogram] | None = None, *processes: Process) -> ServiceStats:
    stats = ServiceStats(at=float(NOW), since=float(NOW - 600))
    stats.slices[NOW - 10] = Slice(NOW - 10, {}, histograms or {})
    stats.processes = list(processes)
    return stats


def _process(pid: int, side: str = "", **pool: int) -> Process:
    sides = [CacheSide("redis", "2026-01-01T10:00:00", "start")]
    if side:
        sides.append(CacheSide(side, "2026-01-01T11:00:00.123", "Connection refused"))
    pools = {"primary": {"total": 4, "idle": 0, "in_use": 4, "waiting": 0, "max": 4, "min": 2, "timeouts": 0, **pool}}
    return Process(pid, "web", 0.0, float(NOW), pools, {}, {}, sides)


def _advice(stats: ServiceStats, advice_id: str) -> Advice | None:
    quiet = ServerFigures("18", None, 1, 100.0, 0, 0, 0, 0, 0, 100, False)  # type: ignore[arg-type]
    return next((found for found in advise(stats, quiet, Config()) if found.id == advice_id), None)


def test_a_slow_report_names_the_statement_that_takes_its_time() -> None:
    stats = _stats({f"request/{REPORT}": _times(*[5.0] * 90, *[400.0] * 10)})
    slow, busy = RouteUse(10, 900.0, 8), RouteUse(5000, 90_000.0, 0)
    stats.statements = [
        StatementFigures("projects.find_key", "SELECT 1", "SELECT", ("api_keys",), routes={"POST /x": busy}),
        StatementFigures("overview.totals", "SELECT 2", "SELECT", ("summary_daily",), routes={REPORT: slow}),
    ]
    found = _advice(stats, "reports.historical.slow")
    assert found is not None
    assert (found.severity, "overview.totals takes the time" in found.title) == ("high", True)
    assert "< 200 ms" in found.figure and "8 slow" in found.figure and "summary_daily" in found.advice
    assert _advice(_stats({f"request/{REPORT}": _times(*[5.0] * 90)}), "reports.historical.slow") is None


def test_slow_events_are_put_down_to_the_commits_or_the_processor() -> None:
    requests = {"request/POST /api/v1/track/event": _times(*[300.0] * 50)}
    disk = _advice(_stats({**requests, "ingest_group_ms": _times(280.0), "hub_block_ms": _times(10.0)}), "ingest.slow")
    processor = _advice(
        _stats({**requests, "ingest_group_ms": _times(5.0), "hub_block_ms": _times(250.0)}), "ingest.slow"
    )
    assert disk is not None and processor is not None
    assert ("disk" in disk.advice, "processor" in processor.advice) == (True, True)
    waits = _stats({**requests, "ingest_group_ms": _times(8.0)})
    routes = {"POST /api/v1/track/event": RouteUse(40, 9000.0, 30)}
    waits.statements = [StatementFigures("projects.find_key", "SELECT 1", "SELECT", ("api_keys",), routes=routes)]
    found = _advice(waits, "ingest.slow")
    assert found is not None and found.title.endswith("projects.find_key takes the time")
    assert "group commits p99 8 ms" in found.figure and "30 of 40 runs for these slow" in found.figure


def test_redis_away_is_said_until_every_process_is_back() -> None:
    found = _advice(_stats(None, _process(1, "memory"), _process(2)), "cache.redis_away")
    assert found is not None
    assert found.figure == "1 of 2 processes, since 2026-01-01T11:00:00: Connection refused"
    assert _advice(_stats(None, _process(1), _process(2)), "cache.redis_away") is None


def test_a_full_pool_is_named_with_its_process() -> None:
    found = _advice(_stats(None, _process(1), _process(2, waiting=7)), "pool.waiting")
    assert found is not None
    assert found.figure == "7 waiting, 0 gave up in 5 minutes; the primary pool of process 2 has 4 of 4 in use"
    gone = _stats(None, _process(1, timeouts=3))  # of its process's whole life: an hour ago, perhaps
    assert _advice(gone, "pool.waiting") is None
    gone.slices[NOW - 10].counts["pool/timeouts"] = 3
    found = _advice(gone, "pool.waiting")
    assert found is not None and found.figure.startswith("0 waiting, 3 gave up in 5 minutes")


def test_a_start_is_not_said_to_hold_everything_up() -> None:
    assert _advice(_stats({"hub_block_ms": _times(*[150.0] * 12)}), "hub.blocked") is None
    assert _advice(_stats({"hub_block_ms": _times(*[150.0] * 30)}), "hub.blocked") is not None


def test_few_look_ups_say_nothing_about_the_cache() -> None:
    stats = _stats()
    stats.slices[NOW - 10].counts = {"cache/a/hits": 50, "cache/a/misses": 140}
    assert _advice(stats, "cache.hits") is None
    stats.slices[NOW - 10].counts = {"cache/a/hits": 50, "cache/a/misses": 150}
    assert _advice(stats, "cache.hits") is not None


def test_a_pool_that_is_too_large_is_advised_and_nothing_urgent() -> None:
    def at(used: float, requests: int) -> Advice | None:
        samples = {"pool/used_percent": _times(*[used] * 20), "request/GET /": _times(*[1.0] * requests)}
        return _advice(_stats(samples), "pool.spare")

    found = at(12.0, 30_000)
    assert found is not None
    assert (found.severity, found.action) == ("low", "DATABASE_POOL_MAX=3")
    assert "12.0% used" in found.figure
    assert at(60.0, 30_000) is None
    assert at(12.0, 100) is None  # without load it says nothing about the pool


def test_a_slow_write_is_never_advised_to_be_run() -> None:
    def at(kind: str) -> str:
        stats = _stats({"query": _times(*[1.0] * 80, *[200.0] * 20)})
        stats.slices[NOW - 10].counts["query/slow"] = 20
        stats.statements = [StatementFigures("a.b", "TEXT", kind, ("t",), slow=20, times=_times(200.0))]
        found = _advice(stats, "queries.slow")
        assert found is not None and found.action is not None
        return found.action

    assert at("SELECT") == "EXPLAIN (ANALYZE, BUFFERS) TEXT"
    assert "TEXT" not in at("INSERT") and "pg_stat_activity" in at("INSERT")


def test_who_holds_a_lock_is_named_and_ended_as_it_must_be() -> None:
    server = ServerFigures("18", None, 1, 100.0, 0, 0, 0, 0, 0, 100, False)  # type: ignore[arg-type]
    server.blocked = [BlockedQuery(pid, [9], 3_000.0, "SELECT ? FROM t") for pid in (7, 8)]
    actions = {}
    for state in ("idle in transaction", "active"):
        server.longest_running = [RunningQuery(9, "psql", state, 9_000.0, 9_000.0, None, None, "LOCK TABLE t")]
        (found,) = [item for item in advise(_stats(), server, Config()) if item.id == "server.blocked.9"]
        assert f"held by psql, {state}" in found.figure and found.title.startswith("2 statements")
        actions[state] = found.action
    assert list(actions.values()) == ["SELECT pg_terminate_backend(9)", "SELECT pg_cancel_backend(9)"]


def test_redis_is_asked_without_its_password() -> None:
    for url, action in {
        "rediss://user:hush@cache.example:6380/1": "redis-cli -h cache.example -p 6380 ping",
        "redis+sentinel://:hush@a:26379,b:26379/mymaster/0": "REDIS_URL",
    }.items():
        quiet = ServerFigures("18", None, 1, 100.0, 0, 0, 0, 0, 0, 100, False)  # type: ignore[arg-type]
        found = advise(_stats(None, _process(1, "memory")), quiet, replace(Config(), redis_url=url))
        assert next(item.action for item in found if item.id == "cache.redis_away") == action
