"""Records every query, request and event of this process; `pulse.monitor.shared` makes one of all processes.

Everything is kept in fixed space: names, statements, runs and slices all have a limit. Parameters are never looked at.

A recorded query costs the client 4 to 9 µs of processor time, counting included: most of it are SQLAlchemy's calls of
any hooks. `make bench-monitor` measures it.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from time import perf_counter, time
from typing import Any

from sqlalchemy import Engine, event

from pulse.config import Config
from pulse.monitor.board import Board, number
from pulse.monitor.histogram import bucket_of
from pulse.monitor.meter import Meter
from pulse.monitor.plans import text_to_plan
from pulse.monitor.queries import REPEATED_OVER, QueryTable, Run
from pulse.monitor.snapshot import RouteUse, Snapshot, StatementFigures, encode, snapshot_decoder

log = logging.getLogger("pulse.queries")

QUERY = "query"
QUERY_SLOW = "query/slow"
QUERY_ERRORS = "query/errors"
REQUEST = "request/"
SERVER_ERRORS = "server_errors/"
CLIENT_ERRORS = "client_errors/"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LOGGED_TEXT = 500
# Counting this many takes half a millisecond, in which nothing else runs.
MAX_PENDING = 500


class Scope:
    """The request that queries run for; `seen` counts its runs of each statement."""

    __slots__ = ("method", "route", "seen")

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self.method = method
        self.seen: dict[str, int] = {}


# The scope of who looks at the figures: what runs in it is not counted, or the looking would be seen.
UNCOUNTED = Scope("", "")
_scope: ContextVar[Scope | None] = ContextVar("pulse_route", default=None)


class Recorder:
    """The figures of one process. Every method may be called from any thread or greenlet."""

    def __init__(self) -> None:
        self.slow_ms = 100.0
        self.enabled = True
        self.forget()

    def forget(self) -> None:
        """Begin again, on a board of its own; a forked child does it so as not to publish its parent's figures."""
        self._lock = threading.Lock()
        self._pending: deque[tuple[str, float, int, float, Scope | None, bytes]] = deque()
        self.use_board(Board())

    def use_board(self, board: Board) -> None:
        """Follow a board, beginning again."""
        with self._lock:
            self._board = board
            self._page = board.page
            self._pending.clear()
            self._begin_again()

    @property
    def board(self) -> Board:
        """The board that is followed."""
        return self._board

    def board_number(self) -> int:
        """The generation on the board."""
        return number(self._board.read())

    def _begin_again(self) -> None:
        self._generation = self._board.read()
        self._meter = Meter(time())
        self._queries = QueryTable()
        self.changes = 0

    def note_query(self, raw: str, duration_ms: float, rows: int) -> None:
        """Take down one run, to be counted with others at the next tick: between two waits each line runs cold.

        A slow one is counted and logged at once.
        """
        if duration_ms >= self.slow_ms:
            self.record_query(raw, duration_ms, rows)
            return
        scope = _scope.get()
        if scope is UNCOUNTED:
            return
        pending = self._pending
        pending.append((raw, duration_ms, rows, time(), scope, self._page[:8]))
        if len(pending) >= MAX_PENDING:
            with self._lock:
                self._drain()

    def record_query(
        self, raw: str, duration_ms: float, rows: int, *, failed: bool = False, named: bool = False
    ) -> None:
        """Count one run of a statement (or of something named) at once; logs it when it was slow."""
        scope = _scope.get()
        if scope is UNCOUNTED:
            return
        slow = duration_ms >= self.slow_ms
        with self._lock:
            self._catch_up()
            figures, use, run = self._count_query(raw, duration_ms, rows, time(), scope, named)
            if failed:
                figures.errors += 1
                self._meter.count(QUERY_ERRORS, 1)
            if slow:
                figures.slow += 1
                use.slow += 1
                self._queries.keep_sent(figures, text_to_plan(figures.name, raw))
                self._meter.count(QUERY_SLOW, 1)
                self._queries.keep_slow(run)
        if slow:
            self._log_slow(figures, duration_ms, scope)

    def _catch_up(self) -> None:
        if self._page[:8] != self._generation:
            self._begin_again()
        if self._pending:
            self._drain()

    def _drain(self) -> None:
        if self._page[:8] != self._generation:
            self._begin_again()
        pending, generation = self._pending, self._generation
        for _ in range(len(pending)):
            raw, duration_ms, rows, at, scope, noted_under = pending.popleft()
            if noted_under == generation:  # else it happened before the reset
                self._count_query(raw, duration_ms, rows, at, scope, False)

    def _count_query(
        self, raw: str, duration_ms: float, rows: int, at: float, scope: Scope | None, named: bool
    ) -> tuple[StatementFigures, RouteUse, Run]:
        meter, queries = self._meter, self._queries
        if at >= meter.ends_at:
            meter.rotate(at)
        figures = queries.find_named(raw) if named else queries.find(raw)
        bucket = bucket_of(duration_ms)
        figures.times.add_known(duration_ms, bucket)
        meter.histogram(QUERY).add_known(duration_ms, bucket)
        if rows > 0:
            figures.rows += rows
        route = scope.route if scope is not None else None
        use = queries.use_of(figures, route)
        use.calls += 1
        use.total_ms += duration_ms
        run = (duration_ms, at, figures, route, rows)
        queries.keep_recent(run)
        self.changes += 1
        if scope is not None:
            text = figures.text  # not the raw one: values may be written into it
            times = scope.seen[text] = scope.seen.get(text, 0) + 1
            if times == REPEATED_OVER + 1:
                figures.repeated += 1
        return figures, use, run

    def _log_slow(self, figures: StatementFigures, duration_ms: float, scope: Scope | None) -> None:
        query = figures.text[:_LOGGED_TEXT]
        log.warning(
            "🐌 Slow query detected (%.2fms) query=%s route=%s method=%s threshold=%gms",
            duration_ms,
            query if figures.name[:40] == query[:40] else f"{figures.name}: {query}",
            scope.route.partition(" ")[2] if scope is not None else "-",
            scope.method if scope is not None else "-",
            self.slow_ms,
        )

    def record_request(self, route: str, method: str, status: int, duration_ms: float) -> None:
        """Count one answered request. `route` is the URL rule, so that ids in paths don't make ever new ones."""
        key = _request_key(method, route)
        bucket = bucket_of(duration_ms)
        with self._lock:
            meter = self._ready_meter()
            meter.histogram(key).add_known(duration_ms, bucket)
            if status >= 500:
                meter.count(SERVER_ERRORS + key.removeprefix(REQUEST), 1)
            elif status >= 400:
                meter.count(CLIENT_ERRORS + key.removeprefix(REQUEST), 1)

    def count(self, name: str, times: int = 1) -> None:
        """Add to an event counter."""
        with self._lock:
            self._ready_meter().count(name, times)

    def observe(self, name: str, value: float) -> None:
        """Add a value to an event histogram."""
        with self._lock:
            self._ready_meter().observe(name, value)

    def sample(self, name: str, value: float) -> None:
        """Add a value that is measured regularly, which alone is no reason to publish."""
        with self._lock:
            self._ready_meter().observe(name, value)
            self.changes -= 1

    def _ready_meter(self) -> Meter:
        if self._page[:8] != self._generation:
            self._begin_again()
        now = time()
        if now >= self._meter.ends_at:
            self._meter.rotate(now)
        self.changes += 1
        return self._meter

    def tick(self) -> None:
        """Count what was taken down; notice a reset and the end of a slice."""
        with self._lock:
            self._catch_up()
            self._meter.rotate(time())

    def snapshot(self, role: str = "web", started_at: float = 0.0, **present: Any) -> Snapshot:
        """A copy of all figures as they stand (about 1 ms); `present` are the Snapshot's fields of no history."""
        return snapshot_decoder.decode(self.encoded(role, started_at, **present))

    def encoded(self, role: str = "web", started_at: float = 0.0, **present: Any) -> bytes:
        """The same as it is published: without a copy in memory, in half the time."""
        with self._lock:
            self._catch_up()
            self._meter.rotate(time())
            totals = self._meter.totals()
            statements = self._queries.statements()
            places = {id(figures): place for place, figures in enumerate(statements)}
            live = Snapshot(
                pid=os.getpid(),
                started_at=started_at,
                role=role,
                generation=number(self._generation),
                since=self._meter.since,
                published_at=time(),
                statements=statements,
                counts=totals.counts,
                histograms=totals.histograms,
                recent=self._queries.recent(places),
                slowest=self._queries.slowest(places),
                slices=self._meter.slices(),
                minutes=self._meter.minutes(),
                **present,
            )
            return encode(live)


recorder = Recorder()
os.register_at_fork(after_in_child=recorder.forget)

record_request = recorder.record_request
count = recorder.count
observe = recorder.observe

_gauges: dict[str, float] = {}


def gauge(name: str, value: float) -> None:
    """Set a present value. Over all processes gauges add up; those named `_s`, `_ms` or `_percent` show the largest."""
    _gauges[name] = value


def gauges() -> dict[str, float]:
    """The present values set in this process."""
    return dict(_gauges)


def set_route(route: str, method: str) -> None:
    """Say which request the queries from here on run for, until `clear_route`."""
    _scope.set(Scope(_route_key(method, route), method))


def set_uncounted() -> None:
    """Say that the request looks at the figures: its queries are not counted, until `clear_route`."""
    _scope.set(UNCOUNTED)


def clear_route() -> None:
    """Say that the request is over."""
    _scope.set(None)


@contextmanager
def route_scope(route: str, method: str) -> Iterator[None]:
    """Name the request that the queries inside run for."""
    token = _scope.set(Scope(_route_key(method, route), method))
    try:
        yield
    finally:
        _scope.reset(token)


@lru_cache(maxsize=1_000)
def _route_key(method: str, route: str) -> str:
    # One string for all requests of a route: each statement's figures keep the one they came with.
    return f"{_known(method)} {route}"


@lru_cache(maxsize=1_000)
def _request_key(method: str, route: str) -> str:
    return f"{REQUEST}{_known(method)} {route}"


def _known(method: str) -> str:
    return method if method in _METHODS else "OTHER"


def install(engine: Engine, config: Config) -> None:
    """Record every statement that `engine` runs; does nothing when ENABLE_QUERY_MONITORING is false."""
    recorder.slow_ms = float(config.slow_query_threshold_ms)
    recorder.enabled = config.enable_query_monitoring
    if not config.enable_query_monitoring or event.contains(engine, "before_cursor_execute", _before):
        return
    # With retval SQLAlchemy calls the hook itself, without a wrapper around it.
    event.listen(engine, "before_cursor_execute", _before, retval=True)
    event.listen(engine, "after_cursor_execute", _after)
    event.listen(engine, "handle_error", _failed)
    event.listen(engine, "engine_connect", _listen_as_the_engine)


def _listen_as_the_engine(connection: Any) -> None:
    # SQLAlchemy asks for the listeners of a connection, then for those of its engine, at every event that exists, also
    # where nobody listens: half of what hooks cost. Nothing here listens to one connection, which would now be to all.
    connection.dispatch = connection.engine.dispatch


def _before(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    context.pulse_started_at = perf_counter()
    return statement, parameters


def _after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    recorder.note_query(statement, (perf_counter() - context.pulse_started_at) * 1000, cursor.rowcount)


def _failed(failure: Any) -> None:
    # Without a context it was the connection that failed, not a statement.
    started_at = getattr(failure.execution_context, "pulse_started_at", None)
    if started_at is not None and failure.statement is not None:
        recorder.record_query(failure.statement, (perf_counter() - started_at) * 1000, 0, failed=True)
