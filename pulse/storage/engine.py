"""Engines: one tuned pool on the primary, one on the replica, and the choice between them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.config import Config
from pulse.errors import Unavailable
from pulse.storage.green_copy import CopyingCursor
from pulse.storage.patience import patient_connection
from pulse.storage.pool import PoolStatus, PulsePool
from pulse.storage.replica import ReplicaWatch

T = TypeVar("T")
_STOPPED = "57014"  # a statement over its time limit: it would take as long elsewhere
_READ_ONLY = "25006"  # a write on a standby
_CONFLICT = "40001"  # replaying the log needed what the query was reading


class ReplicaFailed(Unavailable):
    """The replica failed under a query that had begun; the primary can answer it."""


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
            "connection_factory": patient_connection(statement_timeout_ms),
            "cursor_factory": CopyingCursor,
            "keepalives_idle": 30,
            "tcp_user_timeout": 15_000,  # a host that is gone, or a network that swallows packets
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
        },
    )
    pool = engine.pool
    assert isinstance(pool, PulsePool)
    pool.keep(config.database_pool_min, config.database_pool_idle_timeout_ms / 1000)
    event.listen(engine, "handle_error", _leave_standby)
    return engine


def _leave_standby(context: ExceptionContext) -> None:
    """Give up connections that lead to what is a standby now: after a failover the address leads elsewhere."""
    if getattr(context.original_exception, "pgcode", None) == _READ_ONLY:
        context.is_disconnect = True


class Database:
    """The primary, and a replica for reports while it is up and close behind."""

    def __init__(self, primary: Engine, replica: Engine | None = None) -> None:
        self.primary = primary
        self.replica = replica
        self._watch = ReplicaWatch(primary, replica) if replica is not None else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction on the primary. Raises Unavailable when PostgreSQL can't be reached."""
        with _translated(), self.primary.begin() as connection:
            yield connection

    def run(self, read: Callable[[Connection], T]) -> T:
        """Return what `read` returns for a connection of `read`; begun again on the primary if the replica fails it.

        Raises Unavailable when neither can be reached, and what `read` raises.
        """
        try:
            with self.read() as connection:
                return read(connection)
        except ReplicaFailed:
            with self.read(primary=True) as connection:
                return read(connection)

    @contextmanager
    def read(self, *, primary: bool = False) -> Iterator[Connection]:
        """A connection for reports: the replica's when it is fit, else (or with `primary`) the primary's.

        Raises Unavailable when neither can be reached, ReplicaFailed when the replica fails a query.
        """
        with _translated():
            connection = None if primary else self._connect_replica()
            if connection is not None:
                with connection, self._watched():
                    yield connection
            else:
                with self.primary.connect() as connection:
                    yield connection

    def _connect_replica(self) -> Connection | None:
        if self.replica is None or self._watch is None or not self._watch.is_fit():
            return None
        try:
            return self.replica.connect()
        except (OperationalError, PoolTimeoutError) as error:
            self._watch.mark_down(_first_line(error))
            return None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        assert self._watch is not None
        try:
            yield
        except DBAPIError as error:
            code = getattr(error.orig, "pgcode", None)
            if code == _STOPPED or not (isinstance(error, OperationalError) or error.connection_invalidated):
                raise
            if code != _CONFLICT:
                self._watch.mark_down(_first_line(error))
            raise ReplicaFailed("The replica failed; try again.", retry_after_s=1) from error

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


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]


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
