"""The application: settings in, a wired Flask application out."""

import logging
import threading
import time
from typing import NamedTuple

import msgspec
from flask import Flask, Response, g, request
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError

from pulse.cache import cache
from pulse.config import Config, load_config
from pulse.errors import ConfigError, Unavailable
from pulse.ingest import geo
from pulse.ingest.local_copy import LocalCopy, ask_within
from pulse.ingest.rates import Rates
from pulse.ingest.spool import Spool
from pulse.ingest.visitor import Identity, SaltStore, load_identity
from pulse.ingest.writer import GroupWriter
from pulse.logs import set_up_logging
from pulse.monitor import nodes, recorder, shared
from pulse.monitor.snapshot import CacheSide
from pulse.storage import embedded
from pulse.storage.engine import Database, build_engine
from pulse.storage.pool import start_reaper
from pulse.storage.projects import COOKIES, NO_ADMINISTRATOR, count_administrators, get_secret
from pulse.web import (
    analytics,
    arrival,
    auth,
    campaigns,
    exports,
    goals,
    health,
    near,
    openapi,
    pages,
    performance,
    projects,
    tracking,
    upkeep,
    visitors,
)
from pulse.web.http import compress, install_error_handlers, request_id
from pulse.web.service import Service

log = logging.getLogger("pulse.app")

API_PREFIX = "/api/v1"
# Who looks at the figures is not in them, nor are the files that pages are made of.
UNCOUNTED = (f"{API_PREFIX}/performance", f"{API_PREFIX}/metrics", "/performance", "/metrics", "/static/")
# A report that takes longer is stopped; an event's group that takes longer goes to the spool.
REPORT_TIMEOUT_MS = 10_000
INGEST_TIMEOUT_MS = 3_000
SALT_REFRESH_S = 1800
SALT_RETRY_S = 60
# How long a worker that begins asks PostgreSQL before it goes by the local copy.
ASK_FOR_S = 3.0


def create_app(config: Config | None = None) -> Flask:
    """Build the web application; it expects a migrated database.

    While PostgreSQL is away it begins with what this machine keeps of it. Raises ConfigError, and Unavailable where
    nothing is kept, or the schema is not there.
    """
    config = config or load_config()
    set_up_logging(config, request_id)
    geo.use_database(config.geoip_database)
    database = _connect(config)
    local_copy = LocalCopy(config.data_dir, database.primary.url)
    try:
        found = _read_essentials(database, local_copy)
    except Unavailable:
        database.dispose()  # it will be tried again, and again
        raise
    if config.env == "production" and found.administrators == 0:
        raise ConfigError(NO_ADMINISTRATOR)
    secret_key = config.secret_key.encode() if config.secret_key else found.cookie_secret
    app = Flask("pulse", static_folder=None, template_folder="web/templates")
    app.secret_key = secret_key
    app.config["MAX_CONTENT_LENGTH"] = None  # read_body has the limit, and its own error
    ingest_engine = build_engine(
        config,
        database_url(config),
        application_name="pulse-ingest",
        statement_timeout_ms=INGEST_TIMEOUT_MS,
        autocommit=True,
    )
    writer = GroupWriter(ingest_engine, Spool(config.data_dir / "spool"), is_away=found.is_away)
    rates = Rates(config.ingest_rate_limit, config.data_dir / "stats" / "rates")
    parts = Service(config, database, Database(ingest_engine), writer, rates, found.identity, secret_key, local_copy)
    app.extensions["pulse"] = parts
    cache.init_app(app, config)
    analytics.install_warmer(app, parts)
    _watch(config, database, ingest_engine, parts)
    install_error_handlers(app)
    _install_hooks(app)
    _register_blueprints(app, config)
    again = near.NearFirst(parts, app.wsgi_app)
    app.wsgi_app = tracking.TrackingFirst(parts, again, API_PREFIX)  # type: ignore[method-assign]
    _keep_salts_fresh(SaltStore(database.primary), found, local_copy)
    return app


class _Essentials(NamedTuple):
    """What an application can't begin without. `is_away`: it is of the local copy."""

    administrators: int
    cookie_secret: bytes
    identity: Identity
    is_away: bool = False


def _read_essentials(database: Database, local_copy: LocalCopy) -> _Essentials:
    """Ask PostgreSQL, or the local copy when that fails or takes long. Raises Unavailable where neither can tell."""

    def ask() -> _Essentials:
        with database.begin() as connection:
            return _Essentials(
                count_administrators(connection), get_secret(connection, COOKIES), load_identity(connection)
            )

    copy = local_copy.read()
    try:
        return ask_within(ask, None if copy is None else ASK_FOR_S)
    except (Unavailable, DBAPIError, TimeoutError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", cause)).strip() or f"no answer in {ASK_FOR_S:.0f} s"
        if copy is None or isinstance(error, ProgrammingError):  # that is no outage: the schema is not there
            raise Unavailable(f"The database can't be used: {reason}") from error
        log.warning("PostgreSQL is away, this worker begins with what was copied of it: %s", reason)
        return _Essentials(copy.administrators, copy.cookie_secret, copy.identity(), is_away=True)


def database_url(config: Config) -> str:
    """Return the URL of the database, the embedded one's where none is set."""
    return config.database_url or embedded.locate(config.data_dir).url


def _connect(config: Config) -> Database:
    primary = build_engine(
        config, database_url(config), application_name="pulse-web", statement_timeout_ms=REPORT_TIMEOUT_MS
    )
    replica = None
    if config.database_replica_url:
        replica = build_engine(
            config, config.database_replica_url, application_name="pulse-web", statement_timeout_ms=REPORT_TIMEOUT_MS
        )
    return Database(primary, replica)


def _watch(config: Config, database: Database, ingest: Engine, parts: Service) -> None:
    """Let the monitor see every engine, pool, the cache and the writer of this process."""
    engines = [engine for engine in (database.primary, database.replica, ingest) if engine is not None]
    for engine in engines:
        recorder.install(engine, config)
    for name, engine in zip(("primary", "ingest"), (database.primary, ingest), strict=True):
        shared.register_pool(name, engine.pool.snapshot)  # type: ignore[attr-defined]
    if database.replica is not None:
        shared.register_pool("replica", database.replica.pool.snapshot)  # type: ignore[attr-defined]
    shared.register_cache(
        lambda: {name: msgspec.structs.asdict(row) for name, row in cache.counters().items()},
        lambda: [CacheSide(item.state, item.at.isoformat(), item.reason) for item in cache.transitions()],
    )
    shared.register_gauges(cache.sizes)
    shared.register_gauges(lambda: {"ingest_waiting_rows": float(parts.writer.waiting_rows)})
    for engine in engines:
        start_reaper(engine.pool)  # type: ignore[arg-type]
    shared.start_publishing(config, role="web")
    nodes.start(config, database_url(config))


def _register_blueprints(app: Flask, config: Config) -> None:
    looks = auth.install(app, config)
    blueprints = (tracking, analytics, campaigns, goals, exports, projects, visitors, performance, upkeep, health)
    for module in blueprints:
        app.register_blueprint(module.blueprint, url_prefix=API_PREFIX)
    app.register_blueprint(pages.make_blueprint(config, looks))
    endpoints = [*tracking.ENDPOINTS]
    for typed in (analytics, campaigns, goals, exports, projects, visitors, performance, upkeep, health):
        endpoints += typed.api.endpoints
    app.register_blueprint(openapi.make_blueprint(endpoints))
    app.add_url_rule("/metrics", "metrics", performance.metrics_response)
    app.register_blueprint(health.blueprint, name="health_root")  # where load balancers look, without the prefix


def _install_hooks(app: Flask) -> None:
    @app.before_request
    def begin() -> None:
        g.started_at = arrival.started_at()
        rule = _rule()
        if rule.startswith(UNCOUNTED):
            recorder.set_uncounted()
        else:
            recorder.set_route(rule, request.method)
        auth.load_user()

    @app.after_request
    def end(response: Response) -> Response:
        rule = _rule()
        if not rule.startswith(UNCOUNTED):
            duration_ms = (time.perf_counter() - g.started_at) * 1000
            recorder.record_request(rule, request.method, response.status_code, duration_ms)
        recorder.clear_route()
        compress(response)
        if "pulse_request_id" in g or "X-Request-Id" in request.headers or response.status_code >= 400:
            response.headers["X-Request-Id"] = request_id()
        return response


def _rule() -> str:
    rule = request.url_rule
    return rule.rule if rule is not None else "(unknown)"


def _keep_salts_fresh(salts: SaltStore, found: _Essentials, local_copy: LocalCopy) -> None:
    def run() -> None:
        pause_s = SALT_RETRY_S if found.is_away else SALT_REFRESH_S
        while True:
            time.sleep(pause_s)
            try:
                salts.refresh(found.identity)
                pause_s = SALT_REFRESH_S
            except Exception as error:  # noqa: BLE001 - without it visitors would be counted twice from some day on
                log.warning("the visitor salts could not be refreshed: %s", getattr(error, "orig", error))
                pause_s = SALT_RETRY_S
            copy = local_copy.read()  # after a refresh, too: salts that are due to go leave this process's memory
            if copy and pause_s == SALT_RETRY_S:
                found.identity.add_salts(copy.salts)

    threading.Thread(target=run, name="salts", daemon=True).start()
