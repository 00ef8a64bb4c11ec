"""PostgreSQL's own view of itself: connections, locks, what runs, cache, indexes, tables, replication, statements."""

from datetime import datetime

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from pulse.monitor.statement import normalise
from pulse.storage.sql import load_queries

Q = load_queries("monitor")
LOCK_TIMEOUT_MS = 200


class ConnectionCount(msgspec.Struct, rename="camel"):
    """Connections of one application in one state."""

    application: str
    state: str
    connections: int


class RunningQuery(msgspec.Struct, rename="camel"):
    """A statement that runs now, values left out; times in milliseconds."""

    pid: int
    application: str
    state: str
    running_ms: float
    transaction_ms: float | None
    wait_event_type: str | None
    wait_event: str | None
    query: str


class BlockedQuery(msgspec.Struct, rename="camel"):
    """A statement that waits for others' locks."""

    pid: int
    blocked_by: list[int]
    waiting_ms: float
    query: str


class LockCount(msgspec.Struct, rename="camel"):
    """Locks of one mode."""

    mode: str
    held: int
    waiting: int


class UnusedIndex(msgspec.Struct, rename="camel"):
    """An index that costs on every write and was never read."""

    table_name: str
    index_name: str
    size_bytes: int


class SequentialScans(msgspec.Struct, rename="camel"):
    """A large table that was read from end to end."""

    table_name: str
    scans: int
    rows_read: int
    index_scans: int
    size_bytes: int


class TableFigures(msgspec.Struct, rename="camel"):
    """A table or partition."""

    table_name: str
    partition_of: str | None
    live_rows: int
    dead_rows: int
    table_bytes: int
    index_bytes: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    transaction_age: int


class Replica(msgspec.Struct, rename="camel"):
    """A replica attached to this server."""

    name: str
    address: str | None
    state: str | None
    sync_state: str | None
    behind_bytes: int | None
    lag_s: float


class ServerStatement(msgspec.Struct, rename="camel"):
    """One row of pg_stat_statements; times in milliseconds."""

    query: str
    calls: int
    total_ms: float
    mean_ms: float
    rows: int
    cache_hit_percent: float | None


class Wal(msgspec.Struct, rename="camel"):
    """Log written since the statistics began."""

    wal_records: int
    full_pages: int
    bytes: int


class ServerFigures(msgspec.Struct, rename="camel"):
    """All of it; lists in the order of their statements in sql/monitor.sql.

    `relations_locked`: indexes and tables are missing, because one of them is locked against readers.
    """

    version: str
    started_at: datetime
    size_bytes: int
    cache_hit_percent: float | None
    commits: int
    rollbacks: int
    deadlocks: int
    temp_files: int
    temp_bytes: int
    max_connections: int
    is_replica: bool
    relations_locked: bool = False
    connections: list[ConnectionCount] = []
    longest_running: list[RunningQuery] = []
    blocked: list[BlockedQuery] = []
    locks: list[LockCount] = []
    unused_indexes: list[UnusedIndex] = []
    sequential_scans: list[SequentialScans] = []
    tables: list[TableFigures] = []
    replication: list[Replica] = []
    wal: Wal | None = None
    statements: list[ServerStatement] | None = None

    @property
    def open_connections(self) -> int:
        """Client connections in all states."""
        return sum(row.connections for row in self.connections)


def read_server(connection: Connection) -> ServerFigures:
    """Ask PostgreSQL (about 20 ms); `statements` is None where pg_stat_statements is not installed."""
    figures = ServerFigures(**connection.execute(Q.overview).mappings().one())
    figures.connections = [ConnectionCount(**row) for row in connection.execute(Q.connections).mappings()]
    figures.longest_running = [RunningQuery(**row) for row in connection.execute(Q.longest_running).mappings()]
    figures.blocked = [BlockedQuery(**row) for row in connection.execute(Q.blocked).mappings()]
    # PostgreSQL shows its own text of them, values included.
    for running in figures.longest_running:
        running.query = normalise(running.query)
    for blocked in figures.blocked:
        blocked.query = normalise(blocked.query)
    figures.locks = [LockCount(**row) for row in connection.execute(Q.locks).mappings()]
    _read_relations(connection, figures)
    if not figures.is_replica:
        figures.replication = [Replica(**row) for row in connection.execute(Q.replication).mappings()]
        figures.wal = Wal(**connection.execute(Q.wal).mappings().one())
    figures.statements = read_statements(connection)
    return figures


def _read_relations(connection: Connection, figures: ServerFigures) -> None:
    # A relation's size waits for its lock: who looks for the holder of a lock must not wait behind it.
    try:
        with connection.begin_nested():
            connection.execute(text(f"/* monitor.lock_timeout */ SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
            indexes = [UnusedIndex(**row) for row in connection.execute(Q.unused_indexes).mappings()]
            scans = [SequentialScans(**row) for row in connection.execute(Q.sequential_scans).mappings()]
            tables = [TableFigures(**row) for row in connection.execute(Q.tables).mappings()]
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != "55P03":
            raise
        figures.relations_locked = True
        return
    figures.unused_indexes, figures.sequential_scans, figures.tables = indexes, scans, tables


def read_statements(connection: Connection, limit: int = 20) -> list[ServerStatement] | None:
    """The statements that took most time by PostgreSQL's own count, None without pg_stat_statements."""
    schema = connection.execute(Q.statements_schema).scalar()
    if schema is None:
        return None
    # The extension may sit in any schema, which can't be a bind.
    statement = text(
        "/* monitor.statements */ SELECT left(query, 2000) AS query, calls, total_exec_time AS total_ms,"
        " mean_exec_time AS mean_ms, rows,"
        " round(100.0 * shared_blks_hit / nullif(shared_blks_hit + shared_blks_read, 0), 2)::float8"
        " AS cache_hit_percent"
        f" FROM {schema}.pg_stat_statements"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " ORDER BY total_exec_time DESC LIMIT :limit"
    )
    found = [ServerStatement(**row) for row in connection.execute(statement, {"limit": limit}).mappings()]
    for row in found:
        row.query = normalise(row.query)
    return found
