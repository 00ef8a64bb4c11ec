"""What to do, in plain words: each piece of advice with the figure behind it and the setting or SQL to use."""

from collections.abc import Iterator
from math import ceil
from urllib.parse import urlsplit

import msgspec

from pulse.config import Config
from pulse.monitor import targets
from pulse.monitor.database import BlockedQuery, ServerFigures
from pulse.monitor.service import FIVE_MINUTES_S, ServiceStats
from pulse.monitor.shared import HUB_BLOCK, POOL_TIMEOUTS
from pulse.monitor.snapshot import RouteUse, StatementFigures

# PostgreSQL forces a vacuum at 200 million transactions and stops at 2 billion.
WRAPAROUND_AGE = 500_000_000
MIN_QUERIES = 20
MIN_LOOKUPS = 200
# A start alone holds its processes up a dozen times.
MIN_HOLD_UPS = 20


class Advice(msgspec.Struct, rename="camel", frozen=True):
    """One piece of advice; `severity` is `high`, `medium` or `low`; `action` is a setting, a command or SQL."""

    id: str
    severity: str
    title: str
    figure: str
    advice: str
    action: str | None = None


def advise(
    stats: ServiceStats, server: ServerFigures | None, config: Config, reason: str = "no answer"
) -> list[Advice]:
    """All advice, most urgent first; `server` is None while PostgreSQL can't be asked, for `reason`."""
    found = [*_about_pool(stats, config), *_about_queries(stats, config), *_about_cache(stats, config)]
    found += [*_about_targets(stats, server), *_about_ingestion(stats)]
    if server is None:
        found.append(
            Advice("database.away", "high", "PostgreSQL can't be asked", reason,
                   "Events wait or go to the spool meanwhile; see the log and the pool.", "DATABASE_URL")
        )  # fmt: skip
    else:
        # Who holds a lock is the cause of much that stands above.
        found = [*_about_locks(server), *found, *_about_server(server), *_about_tables(server)]
    return sorted(found, key=lambda item: ("high", "medium", "low").index(item.severity))


def advise_server(server: ServerFigures) -> list[Advice]:
    """What PostgreSQL's own view of itself alone says."""
    return [*_about_locks(server), *_about_server(server), *_about_tables(server)]


def _about_pool(stats: ServiceStats, config: Config) -> Iterator[Advice]:
    pools = stats.pools()
    window = stats.window(FIVE_MINUTES_S)
    used, _ = targets.pool_percent(window)
    waiting, gave_up = pools.get("waiting", 0), window.count(POOL_TIMEOUTS)
    if pools and (waiting or gave_up):
        full = max(
            ((name, process, pool) for process in stats.processes for name, pool in process.pools.items()),
            key=lambda found: (found[2]["waiting"], found[2]["timeouts"]),
        )
        yield Advice(
            "pool.waiting", "high", "Requests wait for a database connection",
            f"{waiting} waiting, {gave_up} gave up in 5 minutes; the {full[0]} pool of process {full[1].pid}"
            f" has {full[2]['in_use']} of {full[2]['max']} in use",
            "Shorten the slowest queries first; if PostgreSQL is not busy, allow each process more connections.",
            f"DATABASE_POOL_MAX={config.database_pool_max * 2}",
        )  # fmt: skip
    elif used is not None and used > 80:
        yield Advice(
            "pool.nearly_full", "medium", "The connection pool is nearly full", f"{used:.0f}% used over 5 minutes",
            "A burst will have to wait. Allow each process more connections.",
            f"DATABASE_POOL_MAX={config.database_pool_max * 3 // 2}",
        )  # fmt: skip
    yield from _about_spare_pool(stats, config)


def _about_spare_pool(stats: ServiceStats, config: Config) -> Iterator[Advice]:
    """Connections that nobody needs: less used than the target's range, which is no miss."""
    board = {found.id: found for found in targets.evaluate(stats)}["database.pool"]
    peak, _ = targets.pool_peak_percent(stats.window(FIVE_MINUTES_S))
    used = board.five_minutes.value
    if board.five_minutes.samples < board.min_samples or used is None or used >= 50 or peak is None:
        return
    # So many that the fullest tenth of the time takes 80 % of them.
    enough = max(ceil(config.database_pool_max * peak / 80), config.database_pool_min, 2)
    if enough < config.database_pool_max:
        yield Advice(
            "pool.spare", "low", "The pool is larger than this load needs",
            f"{used:.1f}% used over 5 minutes, {peak:.0f}% in their fullest tenth, where {board.target} is asked for",
            "Nothing is slower for it: connections that nobody uses only take PostgreSQL's memory. Keep them for"
            " bursts, or allow each process fewer.",
            f"DATABASE_POOL_MAX={enough}",
        )  # fmt: skip


# What the statements under way wait for: a lock, the disk, the log.
_WAITS = (
    "SELECT pid, wait_event_type, wait_event, now() - query_start AS since, left(query, 80) AS query"
    " FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() ORDER BY since DESC"
)


def _look_at(found: StatementFigures) -> tuple[str, str]:
    """What to do about a slow statement, and the SQL for it; a write is never run to see how it fares."""
    tables = ", ".join(found.tables) or "no table of its own"
    if found.type == "SELECT":
        return (
            f"Open it under Statements for its plan, then run it with values of yours; it reads {tables}.",
            f"EXPLAIN (ANALYZE, BUFFERS) {found.text}",
        )
    return (f"See what it waits for while it runs: locks, the disk, triggers. It writes {tables}.", _WAITS)


def _about_queries(stats: ServiceStats, config: Config) -> Iterator[Advice]:
    slow, queries = targets.slow_percent(stats.window(FIVE_MINUTES_S))
    if slow is not None and slow >= 2 and queries >= MIN_QUERIES:
        worst = max(stats.statements, key=lambda found: found.slow, default=None)
        if worst is not None and worst.slow:
            advice, action = _look_at(worst)
            yield Advice(
                "queries.slow", "high" if slow > 5 else "medium", f"Slow too often: {worst.name}",
                f"{slow:.2f}% of {queries} queries over {config.slow_query_threshold_ms} ms in 5 minutes; this one"
                f" {worst.slow} of {worst.times.count} times, p95 {worst.times.quantile(0.95):.0f} ms",
                advice, action,
            )  # fmt: skip
    for found in sorted(stats.statements, key=lambda item: -item.repeated)[:3]:
        if found.repeated:
            yield Advice(
                f"queries.repeated.{found.name}", "medium", f"Run again and again in one request: {found.name}",
                f"{found.repeated} requests ran it more than 10 times",
                "Ask for all the rows at once, with a join or = ANY(…).",
                f"routes: {', '.join(sorted(found.routes)[:5])}",
            )  # fmt: skip


_LATENCY_GROUPS = {"reports.historical": targets.HISTORICAL, "reports.realtime": targets.REALTIME}


def _commits_wait_for(server: ServerFigures | None) -> str:
    for row in server.longest_running if server is not None else []:
        if "store_events(" in row.query and row.wait_event:
            return f"; one has waited {row.running_ms:.0f} ms for {row.wait_event_type} {row.wait_event}"
    return ""


def _about_targets(stats: ServiceStats, server: ServerFigures | None) -> Iterator[Advice]:
    """Why answers are slower than their targets: the statement that took most of their time."""
    results = [found for found in targets.evaluate(stats) if found.status == "missed" and found.unit == "ms"]
    for name, group in _LATENCY_GROUPS.items():
        missed = [found for found in results if found.id.startswith(name)]
        heaviest = _heaviest(stats, group)
        if missed and heaviest:
            use, worst = heaviest
            advice, action = _look_at(worst)
            yield Advice(
                f"{name}.slow", "high", f"Reports: {missed[-1].name} is over its target, {worst.name} takes the time",
                f"{missed[-1].five_minutes.display} where {missed[-1].target} is asked for; {worst.name}: {use.calls}"
                f" calls for these, {use.total_ms / use.calls:.0f} ms on average, {use.slow} slow",
                advice, action,
            )  # fmt: skip
    slow = [found for found in results if found.id.startswith("ingest.")]
    if slow:
        yield _about_slow_events(stats, server, slow[-1])


def _heaviest(stats: ServiceStats, *groups: str) -> tuple[RouteUse, StatementFigures] | None:
    """The statement that was slow most often, or took most time, for the routes of these groups."""
    uses = [
        (use, found)
        for found in stats.statements
        for route, use in found.routes.items()
        if use.calls and targets.group_of(route) in groups
    ]
    return max(uses, key=lambda found: (found[0].slow, found[0].total_ms), default=None)


def _about_slow_events(stats: ServiceStats, server: ServerFigures | None, missed: targets.TargetResult) -> Advice:
    """Events are late for the commits, for a statement of their own (their key's), or for the processor."""
    window = stats.window(FIVE_MINUTES_S)
    commits, blocked = window.histogram(targets.GROUP_MS), window.histogram(HUB_BLOCK)
    figure = (
        f"{missed.five_minutes.display} where {missed.target} is asked for; group commits p99"
        f" {commits.quantile(0.99):.0f} ms, at most {commits.max:.0f} ms; processes held up p99"
        f" {blocked.quantile(0.99):.0f} ms"
    )
    title = f"Ingestion: {missed.name} is over its target"
    heaviest = _heaviest(stats, targets.SINGLE, targets.BATCH)
    # Commits that are fast, every one of them, are not what takes the time.
    if heaviest and heaviest[0].slow and max(commits.max, blocked.max) < (missed.five_minutes.value or 0.0) / 2:
        use, worst = heaviest
        figure += f"; {worst.name}: {use.slow} of {use.calls} runs for these slow"
        return Advice("ingest.slow", "high", f"{title}, {worst.name} takes the time", figure, *_look_at(worst))
    if commits.quantile(0.99) > blocked.quantile(0.99):
        advice = "PostgreSQL takes long to commit: look at its disk, at locks, triggers and at what else it does."
        return Advice("ingest.slow", "high", title, figure + _commits_wait_for(server), advice, _WAITS)
    advice = "The processor is short: fewer workers than cores, or less beside them."
    return Advice("ingest.slow", "high", title, figure, advice, "WEB_CONCURRENCY")


def _ask_redis(url: str | None) -> str:
    """The command that shows whether Redis answers, without the password that the setting may hold."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port or 6379
    except ValueError:  # several hosts: Sentinel, a cluster
        return "REDIS_URL"
    return f"redis-cli -h {host} -p {port} ping" if host and "," not in host else "REDIS_URL"


def _about_cache(stats: ServiceStats, config: Config) -> Iterator[Advice]:
    sides = [process.cache_sides[-1] for process in stats.processes if process.cache_sides]
    away = [side for side in sides if side.state != "redis"]
    if away:
        yield Advice(
            "cache.redis_away", "high", "Redis does not answer; memory stands in",
            f"{len(away)} of {len(sides)} processes, since {away[-1].at[:19]}: {away[-1].reason[:120]}",
            "Start Redis again. Each process computes and keeps its own answers meanwhile, and goes back by itself.",
            _ask_redis(config.redis_url),
        )  # fmt: skip
    hits, lookups = targets.cache_hit_percent(stats.window(FIVE_MINUTES_S))
    web = sum(1 for process in stats.processes if process.role == "web")
    if hits is not None and hits < 80 and lookups >= MIN_LOOKUPS:
        alone = config.redis_url is None and web > 1
        yield Advice(
            "cache.hits", "high" if hits < 70 else "medium", "The cache helps too seldom",
            f"{hits:.2f}% of {lookups} look-ups in 5 minutes",
            f"Each of {web} processes has a cache of its own; a Redis serves them all." if alone
            else "Many different ranges are asked for, or values live too short.",
            "REDIS_URL=redis://localhost:6379/0" if alone else None,
        )  # fmt: skip


def _about_ingestion(stats: ServiceStats) -> Iterator[Advice]:
    refused = stats.window(FIVE_MINUTES_S).count(targets.REFUSED)
    if refused:
        yield Advice(
            "ingest.refused", "high", "Events were turned away", f"{refused} in 5 minutes",
            "More came than PostgreSQL could store. Use a faster disk for it, or more processes if it is idle.",
            "WEB_CONCURRENCY",
        )  # fmt: skip
    lag_s = stats.gauges().get("fold_lag_s", 0.0)
    if lag_s > 30:
        yield Advice(
            "fold.lag", "high" if lag_s > 300 else "medium", "Reports are behind the events", f"{lag_s:.0f} s",
            "The background worker can't keep up or does not run.", "pulse worker",
        )  # fmt: skip
    blocked = stats.window(FIVE_MINUTES_S).histogram(HUB_BLOCK)
    if blocked.count >= MIN_HOLD_UPS and blocked.quantile(0.99) > 100:
        yield Advice(
            "hub.blocked", "medium", "Something holds up all requests of a process at once",
            f"p99 {blocked.quantile(0.99):.0f} ms, {blocked.count} times in 5 minutes",
            "The processor is short, or one request computes for long without a pause.", "WEB_CONCURRENCY",
        )  # fmt: skip


def _about_server(server: ServerFigures) -> Iterator[Advice]:
    if server.open_connections > 0.8 * server.max_connections:
        yield Advice(
            "server.connections", "high", "PostgreSQL runs out of connections",
            f"{server.open_connections} of {server.max_connections}",
            "Lower DATABASE_POOL_MAX or let PostgreSQL accept more.",
            f"ALTER SYSTEM SET max_connections = {server.max_connections * 2}",
        )  # fmt: skip
    if server.cache_hit_percent is not None and server.cache_hit_percent < 95 and server.size_bytes > 2**28:
        yield Advice(
            "server.memory", "medium", "PostgreSQL reads from disk often",
            f"{server.cache_hit_percent:.2f}% from memory",
            "Give it more memory for what is used most (a quarter of the machine's).",
            "ALTER SYSTEM SET shared_buffers = '1GB'",
        )  # fmt: skip
    if server.statements is None:
        yield Advice(
            "server.statements", "low", "PostgreSQL's own statement statistics are off", "not installed",
            "They show the work of every client, not of this service alone.",
            "CREATE EXTENSION pg_stat_statements  -- with shared_preload_libraries = 'pg_stat_statements'",
        )  # fmt: skip
    for replica in server.replication:
        if replica.lag_s > 10:
            yield Advice(
                f"server.replica.{replica.name}", "medium", f"The replica {replica.name} is behind",
                f"{replica.lag_s:.0f} s", "Reports go to the primary meanwhile.", None,
            )  # fmt: skip


def _about_locks(server: ServerFigures) -> Iterator[Advice]:
    """Who keeps others waiting for longer than a second, longest wait first."""
    waiting: dict[int, list[BlockedQuery]] = {}
    for blocked in server.blocked:
        if blocked.waiting_ms > 1000 and blocked.blocked_by:
            waiting.setdefault(blocked.blocked_by[0], []).append(blocked)
    for pid, behind in list(waiting.items())[:3]:
        holder = next((row for row in server.longest_running if row.pid == pid), None)
        # Who holds a lock and does nothing has no statement to cancel.
        idle = holder is not None and holder.state.startswith("idle")
        who = f" by {holder.application}, {holder.state}" if holder is not None else ""
        yield Advice(
            f"server.blocked.{pid}", "high",
            "A statement waits for a lock" if len(behind) == 1 else f"{len(behind)} statements wait for a lock",
            f"{max(found.waiting_ms for found in behind) / 1000:.1f} s, held{who} (process {pid} of PostgreSQL)",
            f"It waits: {behind[0].query[:200]}" if len(behind) == 1 else f"First of them: {behind[0].query[:200]}",
            f"SELECT pg_{'terminate' if idle else 'cancel'}_backend({pid})",
        )  # fmt: skip


def _about_tables(server: ServerFigures) -> Iterator[Advice]:
    for index in server.unused_indexes[:5]:
        yield Advice(
            f"index.unused.{index.index_name}", "low", f"{index.index_name} was never used",
            f"{index.size_bytes / 2**20:.0f} MB", f"It costs on every write to {index.table_name}.",
            f'DROP INDEX CONCURRENTLY "{index.index_name}"',
        )  # fmt: skip
    for table in server.sequential_scans[:5]:
        if table.scans > 100 and table.rows_read / table.scans > 10_000:
            yield Advice(
                f"table.scanned.{table.table_name}", "medium", f"{table.table_name} is read from end to end",
                f"{table.scans} times, {table.rows_read // table.scans:,} rows each",
                "A statement lacks an index; see the slow ones on this table.", f'ANALYZE "{table.table_name}"',
            )  # fmt: skip
    for found in server.tables:
        if found.dead_rows > 10_000 and found.dead_rows > 0.3 * (found.live_rows + found.dead_rows):
            yield Advice(
                f"table.bloat.{found.table_name}", "medium", f"{found.table_name} holds many dead rows",
                f"{found.dead_rows:,} dead, {found.live_rows:,} live", "Vacuum can't keep up.",
                f'VACUUM (ANALYZE) "{found.table_name}"',
            )  # fmt: skip
        if found.transaction_age > WRAPAROUND_AGE:
            yield Advice(
                f"table.age.{found.table_name}", "high", f"{found.table_name} needs a freeze",
                f"{found.transaction_age:,} transactions old", "PostgreSQL stops writing at 2 billion.",
                f'VACUUM (FREEZE) "{found.table_name}"',
            )  # fmt: skip
