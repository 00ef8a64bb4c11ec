"""The performance API: the whole service's own figures, whichever worker answers."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from flask import Blueprint, Response, current_app
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from pulse.cache import cache
from pulse.errors import PulseError
from pulse.monitor import alerts, availability, delivery, files, history, prometheus, report, shared, targets, trends
from pulse.monitor.advice import Advice, advise
from pulse.monitor.database import ServerFigures, read_server
from pulse.monitor.plans import Plan, PlanBook, list_slow
from pulse.monitor.service import ServiceStats
from pulse.storage.engine import Database, build_engine
from pulse.storage.pool import start_reaper
from pulse.web import access
from pulse.web.http import Api, answer_json
from pulse.web.service import service

log = logging.getLogger("pulse.performance")

blueprint = Blueprint("performance", __name__)
api = Api(blueprint, "Performance")

# PostgreSQL's own view takes 20 ms of its time: many open dashboards must not add up.
SERVER_VIEW_S = 5.0
SERVER_TIMEOUT_MS = 3_000


class HistoryQuery(msgspec.Struct, rename="camel"):
    """Which figures (with commas between them), over which time."""

    metric: str = "requestsPerSecond"
    range: str = "5m"


class TrendQuery(msgspec.Struct, rename="camel"):
    """Over which time."""

    range: str = "24h"


T = TypeVar("T")


class View(Generic[T]):
    """Something PostgreSQL is asked for at most every `keep_s`; or why it can't be asked."""

    def __init__(self, read: Callable[[Connection], T], keep_s: float = SERVER_VIEW_S) -> None:
        self._read = read
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: T | None = None
        self._reason = ""

    def read(self) -> tuple[T | None, str]:
        """What was found, or None and the reason."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._keep_s:
                self._found, self._reason = self._ask()
                self._read_at = time.monotonic()
            return self._found, self._reason

    def _ask(self) -> tuple[T | None, str]:
        try:
            with _look_from().begin() as connection:
                connection.execute(text(f"/* monitor.timeout */ SET LOCAL statement_timeout = {SERVER_TIMEOUT_MS}"))
                return self._read(connection), ""
        except PulseError as error:
            return None, error.message
        except DBAPIError as error:
            log.warning("figures could not be read from PostgreSQL: %s", str(error.orig).strip())
            return None, "PostgreSQL refused; the log says why"


def _look_from() -> Database:
    """The connections to look through: the reports', or one of its own while all of those are in use.

    Who looks why everything hangs must neither hang as well nor be told nothing.
    """
    parts = service()
    pool = parts.database.pools().get("primary")
    if pool is None or pool.in_use < pool.max:
        return parts.database
    spare: Database | None = current_app.extensions.get("pulse.spare")
    if spare is None:
        own = replace(parts.config, database_pool_max=1, database_pool_min=0, database_pool_acquire_timeout_ms=1_000)
        url = parts.database.primary.url.render_as_string(hide_password=False)
        engine = build_engine(own, url, application_name="pulse-monitor", statement_timeout_ms=SERVER_TIMEOUT_MS)
        start_reaper(engine.pool)  # type: ignore[arg-type]
        spare = current_app.extensions["pulse.spare"] = Database(engine)
    return spare


def _view(name: str, read: Callable[[Connection], T], keep_s: float = SERVER_VIEW_S) -> tuple[T | None, str]:
    views: dict[str, View[T]] = current_app.extensions.setdefault("pulse.views", {})
    return views.setdefault(name, View(read, keep_s)).read()


def _server_view() -> tuple[ServerFigures | None, str]:
    return _view("server", read_server)


def _folder() -> Path:
    return files.folder_of(service().config.data_dir)


def _fresh(data: Any) -> Response:
    response = answer_json(data)
    response.headers["Cache-Control"] = "no-store"
    return response


def _cache_part(stats: ServiceStats) -> dict[str, Any]:
    return report.report_cache(stats, cache.get_stats())


def _database_part(stats: ServiceStats) -> dict[str, Any]:
    return report.report_database(stats, service().config)


def _check(stats: ServiceStats) -> alerts.State:
    return alerts.check(_folder(), stats, delivery.channels(service().config))


def _targets_part(stats: ServiceStats, state: alerts.State) -> list[targets.TargetResult]:
    found = []
    for target in targets.evaluate(stats):
        known = state.targets.get(target.id)
        since = report.iso(known.since) if known is not None and known.status == target.status else None
        found.append(msgspec.structs.replace(target, since=since))
    return found


def _availability_part(state: alerts.State) -> dict[str, Any] | None:
    found = state.availability
    if found is None:
        return None
    spans = {"day": found.day, "month": found.month}
    return {
        "target": f"{availability.TARGET_PERCENT:g}%",
        "countedAt": report.iso(found.at),
        **{
            name: {**msgspec.to_builtins(span), "since": report.iso(span.since)}
            for name, span in spans.items()
        },
    }  # fmt: skip


def _alerts_part(state: alerts.State) -> dict[str, Any]:
    return {
        "active": [_alert(found) for found in state.active()],
        "history": [_alert(found) for found in state.alerts if found.ended_at is not None],
        "rules": [
            {
                "name": rule.name,
                "title": rule.title,
                "condition": rule.condition,
                "windowSeconds": rule.window_s,
                "endsAt": f"{'>=' if rule.falls else '<='} {rule.clear:g} %",
                "value": None if (seen := state.rules[rule.name]).value is None else round(seen.value, 2),
                "firing": seen.firing is not None,
            }
            for rule in alerts.RULES
        ],
    }


def _alert(found: alerts.Alert) -> dict[str, Any]:
    return {
        "id": found.id,
        "rule": found.rule,
        "message": found.message,
        "value": f"{found.value:.2f}%",
        "worst": f"{found.worst:.2f}%",
        "startedAt": report.iso(found.started_at),
        "endedAt": report.iso(found.ended_at),
        "acknowledgedAt": report.iso(found.acknowledged_at),
        "acknowledgedBy": found.acknowledged_by,
        "undelivered": [
            {"channel": d.channel, "attempts": d.attempts, "error": d.error, "givenUp": d.given_up}
            for d in found.deliveries
        ],
    }


@api("GET", "/performance", "Everything at a glance: queries, cache, database, system, targets, alerts", scope="admin")
def overview() -> Response:
    """Answer all parts; PostgreSQL is not asked, so that this works without it."""
    stats = shared.collect()
    config = service().config
    state = _check(stats)
    return _fresh(
        {
            "queries": report.report_queries(stats),
            "cache": _cache_part(stats),
            "database": _database_part(stats),
            "system": report.report_system(stats, config),
            "latency": report.report_latency(stats),
            "ingestion": report.report_ingestion(stats),
            "targets": _targets_part(stats, state),
            "availability": _availability_part(state),
            "alerts": _alerts_part(state),
        }
    )


@api(
    "GET", "/performance/queries", "Statements by time, table, type and route; recent and slow ones with their plans",
    scope="admin",
)  # fmt: skip
def queries() -> Response:
    """Answer the queries part; slow runs of named statements come with the plan, once the background made it."""
    part = report.report_queries(shared.collect())
    known = PlanBook(_folder()).known()
    for run in part["statistics"]["topSlowQueries"]:
        plan = known.get(run["name"])
        run["plan"] = plan.plan if plan is not None else None
    return _fresh(part)


@api(
    "GET", "/performance/queries/<name>/plan", "The plan of a named statement, made without running it",
    scope="admin", answer=Plan,
)  # fmt: skip
def plan(name: str) -> Response:
    """Answer a plan, made at most once an hour. Raises NotFound for a name that is no block of ours."""
    book = PlanBook(_folder())
    sent = list_slow(shared.collect()).get(name)
    return _fresh(service().database.run(lambda connection: book.find(connection, name, sent)))


@api(
    "GET", "/performance/queries/<name>/history", "Calls and mean time of a named statement over a day or two weeks",
    scope="admin", query=TrendQuery, answer=trends.Trend,
)  # fmt: skip
def trend(name: str, query: TrendQuery) -> Response:
    """Answer the trend of a statement; empty for one that was not run, or has no name."""
    with service().database.begin() as connection:
        return _fresh(trends.read(connection, name.replace("\0", ""), query.range))


@api("GET", "/performance/cache", "Hit rates by namespace, sizes, Redis and failover", scope="admin")
def cache_figures() -> Response:
    """Answer the cache part."""
    return _fresh(_cache_part(shared.collect()))


@api("GET", "/performance/database", "Connection pools, and PostgreSQL's own view of itself", scope="admin")
def database_figures() -> Response:
    """Answer the database part with `server`, null where PostgreSQL can't be asked."""
    server, reason = _server_view()
    return _fresh({**_database_part(shared.collect()), "server": server, "serverError": reason or None})


@api(
    "GET", "/performance/targets", "Every target with its actual over 5 minutes and an hour, and its status since when",
    scope="admin", answer=list[targets.TargetResult],
)  # fmt: skip
def target_board() -> Response:
    """Answer the target board."""
    stats = shared.collect()
    return _fresh(_targets_part(stats, _check(stats)))


@api(
    "GET", "/performance/history", "Figures over the last minutes, hours, weeks or the last year",
    scope="admin", query=HistoryQuery, answer=history.History,
)  # fmt: skip
def history_view(query: HistoryQuery) -> Response:
    """Answer metrics over time; without PostgreSQL what memory knows of them, and why the rest is missing."""
    wish = history.read_wish(query.metric, query.range)
    stats = shared.collect()
    if wish.range == "5m":
        return _fresh(history.series(stats, wish, {}, [], None))
    keep_s = SERVER_VIEW_S if wish.range == "1h" else history.RANGES[wish.range][0] / 2
    found, problem = _view(
        wish.range, lambda connection: history.read_kept(connection, wish.range, time.time()), min(keep_s, 60.0)
    )
    rows, starts = found or ({}, [])
    return _fresh(history.series(stats, wish, rows, starts, problem or None))


@api("GET", "/performance/advice", "What to do, with the figure behind it", scope="admin", answer=list[Advice])
def advice_view() -> Response:
    """Answer the advice, most urgent first."""
    server, reason = _server_view()
    return _fresh(advise(shared.collect(), server, service().config, reason))


@api("POST", "/performance/reset", "Set every figure of every process to nought", scope="admin")
def reset() -> Response:
    """Begin again; alerts and their history stay."""
    shared.reset()
    return _fresh({"message": "All figures begin again.", "resetAt": report.iso(time.time())})


@api("POST", "/performance/alerts/<alert_id>/acknowledge", "Note that somebody looks after an alert", scope="admin")
def acknowledge(alert_id: str) -> Response:
    """Answer the alert with who acknowledged it first."""
    return _fresh(_alert(alerts.acknowledge(_folder(), alert_id, access.identify().name)))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer the figures as Prometheus text; also served at `/metrics`."""
    return metrics_response()


def metrics_response() -> Response:
    """The figures as Prometheus text. Raises Unauthorized or Forbidden without the admin scope."""
    access.require("admin")
    stats = shared.collect()
    return Response(prometheus.render(stats, _check(stats), _routes()), content_type=prometheus.CONTENT_TYPE)


def _routes() -> list[str]:
    """Every `METHOD /rule` of the service."""
    implied = {"HEAD", "OPTIONS"}
    rules = current_app.url_map.iter_rules()
    return [f"{method} {rule.rule}" for rule in rules for method in (rule.methods or set()) - implied]
