"""Engines: one tuned pool on the primary, one on the replica, and the choice between them."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.storage.pool import PoolStatus, PulsePool

log = logging.getLogger("pulse.storage")

REPLICA_MAX_LAG_S = 10.0
REPLICA_CHECK_EVERY_S = 2.0

# Lag is nothing while all received WAL is replayed: an idle primary writes none, and its last commit grows old.
_LAG = text(
    "/* engine.replica_lag */ SELECT CASE WHEN pg_is_in_recovery() IS FALSE"
    " OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0"
    " ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END"
)


def build_engine(
    config: Config,
    url: str,
    *,
    application_name: str = "pulse",
    statement_timeout_ms: int = 30_000,
    autocommit: bool = False,
) -> Engine:
    """Make an engine on `url` with the pool the settings ask for; nothing connects yet.

    With `autocommit` a statement is its own transaction: one round trip to PostgreSQL instead of three.

    Sessions run in UTC without JIT: compiling a plan costs 50 to 300 ms, more than any report may take in all.
    """
    server_settings = {
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(min(statement_timeout_ms, 10_000) or 10_000),
        "idle_in_transaction_session_timeout": "60000",
    }
    engine = create_engine(
        make_url(url),
        poolclass=PulsePool,
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
        pool_size=config.database_pool_max,
        pool_timeout=config.database_pool_acquire_timeout_ms / 1000,
        pool_recycle=3600,
        hide_parameters=True,  # errors are logged, and parameters hold secrets and visitors' data
        connect_args={
            "application_name": application_name,
            "connect_timeout": 5,
            "keepalives_idle": 30,
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
        },
    )
    pool = engine.pool
    assert isinstance(pool, PulsePool)
    pool.keep(config.database_pool_min, config.database_pool_idle_timeout_ms / 1000)
    return engine


class Database:
    """The primary, and a replica for reports while it is up and close behind."""

    def __init__(self, primary: Engine, replica: Engine | None = None) -> None:
        self.primary = primary
        self.replica = replica
        self._replica_ok = replica is not None
        self._replica_checked_at = 0.0

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction on the primary. Raises Unavailable when PostgreSQL can't be reached."""
        with _translated(), self.primary.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reports: the replica's when it is healthy, else the primary's.

        Raises Unavailable when neither can be reached.
        """
        with _translated():
            replica = self._healthy_replica()
            if replica is not None:
                try:
                    connection = replica.connect()
                except (OperationalError, PoolTimeoutError):
                    self._mark_replica(False)
                    connection = self.primary.connect()
            else:
                connection = self.primary.connect()
            with connection:
                yield connection

    def _healthy_replica(self) -> Engine | None:
        if self.replica is None:
            return None
        if time.monotonic() - self._replica_checked_at >= REPLICA_CHECK_EVERY_S:
            self._replica_checked_at = time.monotonic()
            try:
                with self.replica.connect() as connection:
                    lag_s = connection.execute(_LAG).scalar()
                self._mark_replica(lag_s is not None and lag_s <= REPLICA_MAX_LAG_S)
            except (DBAPIError, PoolTimeoutError):
                self._mark_replica(False)
        return self.replica if self._replica_ok else None

    def _mark_replica(self, ok: bool) -> None:
        if ok != self._replica_ok:
            log.warning("reports go to the %s", "replica again" if ok else "primary: the replica is down or behind")
        self._replica_ok = ok

    def pools(self) -> dict[str, PoolStatus]:
        """Return the state of each pool by name."""
        engines = {"primary": self.primary, "replica": self.replica}
        pools = {name: engine.pool for name, engine in engines.items() if engine is not None}
        return {name: pool.snapshot() for name, pool in pools.items() if isinstance(pool, PulsePool)}

    def dispose(self) -> None:
        """Close every connection."""
        for engine in (self.primary, self.replica):
            if engine is not None:
                engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("Every database connection is busy; try again shortly.", retry_after_s=2) from error
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == "57014":
            raise Unavailable("The query took too long and was stopped; ask for less.", retry_after_s=10) from error
        raise Unavailable("The database can't be reached; try again shortly.", retry_after_s=5) from error
