"""Migrations and partitions: `sql/migrations/NNN_name.sql`, each applied once, in one transaction, with a checksum."""

import hashlib
import logging
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from pulse.errors import PulseError
from pulse.storage.sql import SQL_DIR, load_queries

log = logging.getLogger("pulse.schema")
Q = load_queries("schema")
SEGMENTS = load_queries("segments")

MIGRATIONS_DIR = SQL_DIR / "migrations"
MONTHS_AHEAD = 3
WEEKS_AHEAD = 3
# Client ids are remembered for longer than an event may be old (7 days) when it is sent again.
EVENT_ID_WEEKS = 3
# How PostgreSQL tidies each partition up; docs/SCHEMA.md says why.
STORAGE = {
    "events": {
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
        "autovacuum_freeze_min_age": "0",
    },
    "sessions": {
        "fillfactor": "90",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
    },
    "event_ids": {"autovacuum_vacuum_insert_threshold": "-1", "autovacuum_analyze_scale_factor": "0.05"},
}
# Most common values and histogram bounds of each column of events and sessions; 300 times as many rows are read.
STATISTICS_TARGET = 10


class SchemaError(PulseError):
    """The database holds another schema than this release can work with."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, so that an edit to an applied migration is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: `parent` holds rows of [starts_on, ends_on)."""

    parent: str
    name: str
    starts_on: date
    ends_on: date


def list_migrations(folder: Path = MIGRATIONS_DIR) -> list[Migration]:
    """Return the migrations in order. Raises SchemaError for a gap, a double number or a bad file name."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{3})_(\w+)\.sql", path.name)
        if match is None:
            raise SchemaError(f"{path.name}: a migration's name is NNN_name.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise SchemaError("migrations must be numbered from 001 without a gap")
    return found


def migrate(engine: Engine, folder: Path = MIGRATIONS_DIR) -> list[str]:
    """Apply what is missing and make the partitions; return the names applied. Safe to run from many hosts at once.

    Raises SchemaError when an applied migration was edited or the database is from a newer release.
    """
    migrations = list_migrations(folder)
    applied_now = []
    with engine.begin() as connection:
        connection.execute(Q.lock_migrations)
        connection.execute(Q.create_migrations_table)
    for migration in migrations:
        with engine.begin() as connection:
            connection.execute(Q.lock_migrations)
            if _apply(connection, migration, migrations):
                applied_now.append(f"{migration.number:03d}_{migration.name}")
    make_partitions(engine)
    return applied_now


def _apply(connection: Connection, migration: Migration, known: list[Migration]) -> bool:
    done = {row.number: row.checksum for row in connection.execute(Q.list_applied)}
    _check_applied(done, known)
    if migration.number in done:
        return False
    log.info("applying migration %03d_%s", migration.number, migration.name)
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(migration.sql.replace("%", "%%"))
    connection.execute(
        Q.record_migration,
        {"number": migration.number, "name": migration.name, "checksum": migration.checksum},
    )
    return True


def missing_migrations(connection: Connection, folder: Path = MIGRATIONS_DIR) -> list[str]:
    """Return the names of those to be applied. Raises SchemaError as `migrate` does."""
    known = list_migrations(folder)
    done = schema_version(connection)
    if done:
        _check_applied({row.number: row.checksum for row in connection.execute(Q.list_applied)}, known)
    return [f"{m.number:03d}_{m.name}" for m in known if m.number > done]


def _check_applied(checksums: dict[int, str], known: list[Migration]) -> None:
    newer = max(checksums, default=0)
    if newer > len(known):
        raise SchemaError(f"the database is at migration {newer:03d}, this release knows {len(known):03d}; upgrade it")
    for migration in known:
        if checksums.get(migration.number, migration.checksum) != migration.checksum:
            raise SchemaError(f"migration {migration.number:03d}_{migration.name} was edited after it was applied")


def schema_version(connection: Connection) -> int:
    """Return the number of the newest applied migration, 0 for an empty database."""
    if connection.execute(Q.has_migrations_table).scalar() is None:
        return 0
    return max((row.number for row in connection.execute(Q.list_applied)), default=0)


def wanted_partitions(today: date) -> list[Partition]:
    """List the partitions that must exist on `today` (UTC): last month (events up to 7 days old) to some ahead."""
    wanted = []
    month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    for _ in range(MONTHS_AHEAD + 2):
        after = (month + timedelta(days=32)).replace(day=1)
        wanted += [Partition(parent, f"{parent}_{month:%Y_%m}", month, after) for parent in ("events", "sessions")]
        month = after
    monday = today - timedelta(days=today.weekday() + 7)
    for _ in range(WEEKS_AHEAD + 2):
        after = monday + timedelta(days=7)
        wanted.append(Partition("event_ids", f"event_ids_{monday:%Y_%m_%d}", monday, after))
        monday = after
    return wanted


def list_partitions(connection: Connection) -> list[Partition]:
    """Return the existing partitions, by parent and start."""
    return [
        Partition(row.parent, row.name, date.fromisoformat(row.starts_on), date.fromisoformat(row.ends_on))
        for row in connection.execute(Q.list_partitions)
    ]


def first_kept_on(connection: Connection) -> date | None:
    """Return the first UTC day of which raw events are still kept, None without partitions."""
    return min((p.starts_on for p in list_partitions(connection) if p.parent == "events"), default=None)


def missing_partitions(connection: Connection, today: date) -> list[Partition]:
    """Return those that must exist on `today` and do not."""
    existing = {partition.name for partition in list_partitions(connection)}
    return [p for p in wanted_partitions(today) if p.name not in existing]


def make_partitions(engine: Engine, today: date | None = None) -> list[str]:
    """Create the missing partitions; return their names."""
    today = today or datetime.now(UTC).date()
    with engine.begin() as connection:
        connection.execute(Q.lock_migrations)
        missing = missing_partitions(connection, today)
        for p in missing:
            connection.exec_driver_sql(
                f"CREATE TABLE {p.name} PARTITION OF {p.parent} FOR VALUES FROM ('{p.starts_on}') TO ('{p.ends_on}')"
            )
        _tune_partitions(connection)
    return [p.name for p in missing]


def _tune_partitions(connection: Connection) -> None:
    """Give STORAGE and the target to the partitions that lack them: new ones, and those of an older release."""
    for row in connection.execute(Q.list_storage):
        wanted = STORAGE[row.parent]
        if not {f"{name}={value}" for name, value in wanted.items()} <= set(row.options):
            settings = ", ".join(f"{name} = {value}" for name, value in wanted.items())
            connection.exec_driver_sql(f"ALTER TABLE {row.name} SET ({settings})")
    for row in connection.execute(Q.list_fine, {"target": STATISTICS_TARGET}):
        targets = ", ".join(f"ALTER COLUMN {name} SET STATISTICS {STATISTICS_TARGET}" for name in row.columns)
        connection.exec_driver_sql(f"ALTER TABLE {row.name} {targets}")


def drop_old_event_ids(engine: Engine, today: date | None = None) -> list[str]:
    """Drop the weeks of client ids that no accepted event can repeat any more; return their names."""
    today = today or datetime.now(UTC).date()
    oldest = today - timedelta(days=today.weekday() + 7 * (EVENT_ID_WEEKS - 1))
    with engine.begin() as connection:
        connection.execute(Q.lock_migrations)
        gone = [p for p in list_partitions(connection) if p.parent == "event_ids" and p.ends_on <= oldest]
        for p in gone:
            connection.exec_driver_sql(f"DROP TABLE {p.name}")
    return [p.name for p in gone]


def drop_expired(engine: Engine, retention_months: int, today: date | None = None) -> list[str]:
    """Drop the months of events and sessions that lie before the `retention_months` last full ones; return their names.

    Summaries stay. A drop waits for whoever uses the table, and all others wait behind it: it gives up after a second,
    to be tried again later.
    """
    today = today or datetime.now(UTC).date()
    months = today.year * 12 + today.month - 1 - retention_months
    oldest = date(months // 12, months % 12 + 1, 1) if months >= 12 else date.min
    with engine.begin() as connection:
        found = list_partitions(connection)
    gone = [p for p in found if p.parent in ("events", "sessions") and p.ends_on <= oldest]
    for p in gone:
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
            connection.execute(Q.lock_migrations)
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {p.name}")
            # After the drop: a pack begun later waits for it, and finds nothing more of the month.
            connection.execute(SEGMENTS.forget_before, {"day": p.ends_on})
        log.info("dropped %s: its month is past RETENTION_MONTHS", p.name)
    return [p.name for p in gone]
