"""Checks of PostgreSQL: the server, what this login may do, the schema, the work that waits, the replica."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from pulse.config import Config
from pulse.jobs import is_led
from pulse.monitor.advice import advise_server
from pulse.monitor.database import read_server
from pulse.storage import schema
from pulse.storage.projects import DEVELOPMENT_KEY, NO_ADMINISTRATOR, count_administrators, find_key
from pulse.storage.replica import MAX_LAG_S, read_replayed, read_written
from pulse.storage.sql import load_queries
from pulse.upkeep.finding import Finding, advice, ok, wrong

Q = load_queries("doctor")

SLOW_ROUND_TRIP_MS = 5.0
SKEW_S, BAD_SKEW_S = 1.0, 60.0
WAITS_LONG_S = {"fold_s": 60.0, "goals_s": 120.0, "rebuilds_s": 3600.0, "removals_s": 3600.0, "erasures_s": 3600.0}
_WORK = {
    "fold_s": "events wait for the fold, so reports lack them",
    "goals_s": "completions of goals wait to be counted",
    "rebuilds_s": "days wait to be counted anew",
    "removals_s": "a deleted project waits to be cleared away",
    "erasures_s": "a visitor waits to be forgotten",
}
_KEPT_FOR_SLOT_BYTES = 2**30
_CATCH_UP_S = 2.0


def check_server(connection: Connection, config: Config) -> Iterator[Finding]:
    """The server itself: version, settings, privileges, latency, clock."""
    found = connection.execute(Q.server).one()
    if found.version_number < 150000:
        yield wrong("PostgreSQL", f"It is version {found.version}; 15 or newer is needed.", "Upgrade PostgreSQL.")
    else:
        yield ok("PostgreSQL", f"It is version {found.version}.")
    if found.is_standby or found.is_read_only:
        yield wrong("PostgreSQL", "It takes no writes: a standby, or read-only.", "Set DATABASE_URL to the primary.")
    for name in ("fsync", "full_page_writes"):
        if getattr(found, name) == "off":
            yield wrong("settings of PostgreSQL", f"{name} is off: a crash of the machine can destroy the database.",
                        f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")  # fmt: skip
    if found.synchronous_commit == "off":
        yield wrong("settings of PostgreSQL", "synchronous_commit is off: events answered with 200 can be lost.",
                    "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()")  # fmt: skip
    if found.autovacuum == "off":
        yield wrong("settings of PostgreSQL", "autovacuum is off: tables grow, and writing stops in the end.",
                    "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()")  # fmt: skip
    if found.shared_buffers_bytes < 128 * 2**20:
        yield advice("settings of PostgreSQL", f"shared_buffers is {found.shared_buffers_bytes // 2**20} MB.",
                     "Give it an eighth to a quarter of the machine's memory, and restart it.")  # fmt: skip
    wanted = (2 * config.web_concurrency + 1) * config.database_pool_max
    if wanted > found.connections:
        yield advice(
            "connections", f"The processes may open {wanted} connections, PostgreSQL takes {found.connections}.",
            "Lower DATABASE_POOL_MAX or WEB_CONCURRENCY, or raise max_connections.",
        )  # fmt: skip
    if not (found.may_create and found.may_make_temporary):
        yield wrong("privileges", f"{found.login} may not make tables: no migration, no new partition, no fold.",
                    f"GRANT CREATE ON SCHEMA public TO {found.login}; and TEMPORARY on the database.")  # fmt: skip
    yield _check_latency(connection)
    yield _check_clock(connection)


def _check_latency(connection: Connection) -> Finding:
    trips_ms = []
    for _ in range(5):
        started_at = time.perf_counter()
        connection.execute(text("/* doctor.ping */ SELECT 1"))
        trips_ms.append((time.perf_counter() - started_at) * 1000)
    if min(trips_ms) > SLOW_ROUND_TRIP_MS:
        return advice("latency", f"A round trip to PostgreSQL takes {min(trips_ms):.1f} ms; each report pays several.",
                      "Run it in the same data centre, best on the same network.")  # fmt: skip
    return ok("latency", f"A round trip takes {min(trips_ms):.2f} ms.")


def _check_clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    theirs: datetime = connection.execute(Q.clock).scalar_one()
    after = datetime.now(UTC)
    skew_s = (theirs - (before + (after - before) / 2)).total_seconds()
    if abs(skew_s) <= SKEW_S:
        return ok("clock", "This machine and PostgreSQL agree.")
    told = wrong if abs(skew_s) > BAD_SKEW_S else advice
    way = "ahead of" if skew_s > 0 else "behind"
    return told("clock", f"PostgreSQL's clock is {abs(skew_s):.1f} s {way} this machine's.",
                "Let both machines keep their time by NTP.")  # fmt: skip


def check_schema(connection: Connection, config: Config) -> Iterator[Finding]:
    """Migrations, partitions, who owns the tables, indexes, and PostgreSQL's state as the monitor judges it."""
    try:
        missing = schema.missing_migrations(connection)
    except schema.SchemaError as error:
        yield wrong("schema", f"{error}.", "Install the release that the database was migrated by.")
        return
    if missing:
        yield wrong("schema", f"Migrations are missing: {', '.join(missing)}.", "pulse migrate")
        return
    yield ok("schema", "All migrations are applied.")
    lacking = schema.missing_partitions(connection, datetime.now(UTC).date())
    if lacking:
        yield wrong("partitions", f"Missing: {', '.join(p.name for p in lacking)}; their rows can't be stored.",
                    "pulse migrate")  # fmt: skip
    else:
        yield ok("partitions", "Those of today and of the months ahead are there.")
    tables = sorted({p.parent for p in schema.list_partitions(connection)} | {"projects", "summary_daily"})
    foreign = [row.name for row in connection.execute(Q.foreign_tables, {"tables": tables})]
    if foreign:
        yield wrong("privileges", f"This login does not own {', '.join(foreign)}: partitions can't be made or dropped.",
                    "ALTER TABLE … OWNER TO, or use the login that migrated.")  # fmt: skip
    for index in connection.execute(Q.invalid_indexes):
        yield wrong("indexes", f"{index.name} on {index.table_name} is invalid: it costs and answers nothing.",
                    f"REINDEX INDEX CONCURRENTLY {index.name}")  # fmt: skip
    for found in advise_server(read_server(connection)):
        if found.severity == "low":
            continue  # a matter for the performance page
        told = wrong if found.severity == "high" else advice
        message = f"{found.title}: {found.figure}. {found.advice}"
        yield told("state of PostgreSQL", message, found.action or "See the log.")
    for slot in connection.execute(Q.slots):
        if slot.kept_bytes > _KEPT_FOR_SLOT_BYTES:
            yield wrong("replication", f"Nobody reads slot {slot.name}: {slot.kept_bytes // 2**20} MB of log are kept.",
                        f"SELECT pg_drop_replication_slot('{slot.name}'), or start its replica.")  # fmt: skip
    yield from _check_people(connection, config)


def _check_people(connection: Connection, config: Config) -> Iterator[Finding]:
    if config.env != "production":
        return
    if count_administrators(connection) == 0:
        yield wrong("administrator", NO_ADMINISTRATOR, "pulse user create you@example.com")
    if find_key(connection, DEVELOPMENT_KEY) is not None:
        yield advice("keys", f"The database holds the well-known key {DEVELOPMENT_KEY}; production refuses it.",
                     "pulse key list --project 1; pulse key revoke")  # fmt: skip


def check_work(connection: Connection) -> Iterator[Finding]:
    """The background worker, and the work that waits for it."""
    if is_led(connection):
        yield ok("background worker", "One leads.")
    else:
        yield wrong("background worker", "None leads: nothing is folded, replayed or tidied up.",
                    "pulse serve, or pulse worker")  # fmt: skip
    waiting = connection.execute(Q.waiting).one()
    for name, limit_s in WAITS_LONG_S.items():
        waits_s = getattr(waiting, name)
        if waits_s is not None and waits_s > limit_s:
            yield wrong("background work", f"For {waits_s:.0f} s, {_WORK[name]}.",
                        "See the background worker's log: does it run, and does it keep up?")  # fmt: skip
    if waiting.failed_rebuilds:
        yield wrong("background work", f"{waiting.failed_rebuilds} rebuilds of days failed within a week.",
                    "GET /api/v1/aggregation/daily says why; POST asks again.")  # fmt: skip


def check_replica(primary: Engine, replica: Engine) -> Iterator[Finding]:
    """Whether the replica answers and how far it is behind."""
    try:
        written = read_written(primary)
        deadline = time.monotonic() + _CATCH_UP_S
        with replica.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            replayed = read_replayed(connection)
            while written is not None and replayed is not None and replayed < written and time.monotonic() < deadline:
                time.sleep(0.05)
                replayed = read_replayed(connection)
    except DBAPIError as error:
        yield wrong("replica", f"It can't be used: {str(error.orig).strip()}",
                    "Start it, or unset DATABASE_REPLICA_URL.")  # fmt: skip
        return
    if replayed is None:
        yield advice("replica", "It is no standby, so nobody can tell how far it is behind.",
                     "Set DATABASE_REPLICA_URL to a streaming replica of the primary.")  # fmt: skip
    elif written is not None and replayed < written:
        yield wrong(
            "replica",
            f"It lacks {written - replayed:,} bytes of log after {_CATCH_UP_S:.0f} s; from {MAX_LAG_S:.0f} s on reports"
            " go to the primary.",
            "See pg_stat_replication on the primary and pg_stat_wal_receiver on the replica.",
        )  # fmt: skip
    else:
        yield ok("replica", "It is up and close behind.")
