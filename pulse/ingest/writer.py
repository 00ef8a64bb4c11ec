"""Group commit: requests hand in rows and wait; whatever gathers while one commit is under way goes into the next."""

import logging
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pulse.errors import PulseError, Unavailable
from pulse.ingest import batch as batches
from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.pipeline import Accepted, Drop
from pulse.ingest.spool import Spool
from pulse.monitor import recorder

log = logging.getLogger("pulse.ingest")

# Larger groups raise throughput little (the cost of a row rules) and hold up the event loop while they are sent.
MAX_GROUP = 1000
MAX_WAITING = 20_000
# What one project may have waiting: a flood of its events leaves room for those of others.
MAX_WAITING_OF_PROJECT = MAX_WAITING // 2
# While requests keep coming, a group gathers for this long after the one before began: each commit costs 1 ms of
# processor time in all, whatever its size. Who comes alone waits for nothing. Where commits are slow in coming back,
# the processors are short; then fewer and larger groups help more than waiting less, and a group gathers for some
# commits' time: at 25,000 events/s on two cores that spares a tenth of all processor time.
GATHER_S = 0.008
GATHER_AT_MOST_S = 0.016
GATHER_COMMITS = 3
# How often it is asked whether PostgreSQL is back; ever more rarely while it says so and then stores nothing after all.
PROBE_EVERY_S = 0.5
PROBE_AT_MOST_EVERY_S = 8.0
DROPS_EVERY_S = 1.0

# From so many events of one request on they are copied: what that saves is reckoned to pay for a second round trip.
COPY_FROM = 10


class _Submission:
    """The encoded rows of one request, with the outcome its caller waits for; see Batch for the three kinds."""

    __slots__ = ("claiming", "done", "error", "events", "lines", "project_id", "rows")

    def __init__(self, accepted: list[Accepted]) -> None:
        rows = [each.row for each in accepted if not each.client_id]
        # Of those that share an id the first counts: PostgreSQL would keep any.
        claiming = {each.row.id: each.row for each in reversed(accepted) if each.client_id}.values()
        self.lines = b""
        if len(rows) >= COPY_FROM:
            self.lines, rows = batches.lines_of(rows)
        self.rows = [batches.encode(row).decode() for row in rows]
        self.claiming = [batches.encode(row).decode() for row in claiming]
        self.project_id = accepted[0].row.project_id
        self.events = len(accepted)
        self.done = threading.Event()
        self.error: Exception | None = None

    def size_bytes(self) -> int:
        """Return what the rows take in a spool file."""
        return sum(len(row.encode()) for row in self.rows + self.claiming) + len(self.lines)


class _Queue(deque[_Submission]):
    """What waits of one project, in the order it came; `events` are its rows."""

    events = 0


class GroupWriter:
    """Commits events in groups on a background thread (a greenlet under gevent) of this process.

    While PostgreSQL is away, groups go to the spool instead; when it is back, the background worker replays them.
    """

    def __init__(self, engine: Engine, spool: Spool, *, is_away: bool = False) -> None:
        self._engine = engine
        self._spool = spool
        self._ids = BatchIds(spool.newest())
        # A queue for each project that waits, in the order of their turns.
        self._waiting: dict[int, _Queue] = {}
        self._waiting_rows = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._away = is_away
        self._probe_every_s = PROBE_EVERY_S
        self._probe_at = 0.0
        self._is_probing = False
        self._drops: Counter[tuple[int, str, str]] = Counter()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="group-writer", daemon=True)
        self._thread.start()

    def submit(self, accepted: list[Accepted]) -> None:
        """Return when the rows, all of one project, are committed, or synced to the spool while PostgreSQL is away.

        Raises Unavailable when neither is possible or too much waits already; then nothing is stored.
        """
        submission = _Submission(accepted)
        project_id = submission.project_id
        with self._lock:
            queue = self._waiting.get(project_id) or _Queue()
            is_full = self._waiting_rows + submission.events > MAX_WAITING
            if self._closing or is_full or queue.events + submission.events > MAX_WAITING_OF_PROJECT:
                recorder.count("ingest_refused", submission.events)
                raise Unavailable("Too many events are waiting to be stored.", retry_after_s=1)
            queue.append(submission)
            queue.events += submission.events
            self._waiting[project_id] = queue
            self._waiting_rows += submission.events
        self._wake.set()
        submission.done.wait()
        if submission.error is not None:
            raise submission.error

    def drop(self, project_id: int, reason: Drop, events: int = 1) -> None:
        """Count events that are answered but not stored; written at the latest a second later."""
        self._drops[project_id, datetime.now(UTC).date().isoformat(), reason.value] += events
        recorder.count(f"ingest_dropped_{reason.value}", events)

    @property
    def is_away(self) -> bool:
        """Whether PostgreSQL is: events go to the spool."""
        return self._away

    @property
    def waiting_rows(self) -> int:
        """Rows handed in and not yet on their way."""
        return self._waiting_rows

    def close(self, timeout_s: float = 10.0) -> None:
        """Take no more, and return when all that was handed in has its answer."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        drops_at = time.monotonic()
        began_at = 0.0
        commit_s = 0.0  # of late, on the average
        while True:
            self._wake.wait(DROPS_EVERY_S)
            gather_s = min(max(GATHER_S, GATHER_COMMITS * commit_s), GATHER_AT_MOST_S)
            rest_s = began_at + gather_s - time.monotonic()
            if rest_s > 0 and self._waiting_rows < MAX_GROUP and not self._closing:
                time.sleep(rest_s)
            began_at = time.monotonic()
            self._wake.clear()
            if self._away:
                self._begin_probe()
            if group := self._take_group():
                self._finish(group)
                commit_s += (time.monotonic() - began_at - commit_s) / 16
                if self._waiting:
                    self._wake.set()
            if time.monotonic() - drops_at >= DROPS_EVERY_S or self._closing:
                self._write_drops()
                drops_at = time.monotonic()
            if self._closing and not self._waiting:
                return

    def _take_group(self) -> list[_Submission]:
        """Take from each project in turn: whoever floods the queue delays others by a group, not by the queue."""
        group: list[_Submission] = []
        rows = 0
        with self._lock:
            while self._waiting:
                project_id, queue = next(iter(self._waiting.items()))
                if group and rows + queue[0].events > MAX_GROUP:
                    break
                submission = queue.popleft()
                queue.events -= submission.events
                rows += submission.events
                group.append(submission)
                del self._waiting[project_id]
                if queue:
                    self._waiting[project_id] = queue
            self._waiting_rows -= rows
        return group

    def _finish(self, group: list[_Submission]) -> None:
        started_at = time.perf_counter()
        try:
            self._keep(group)
        except BaseException as error:  # noqa: BLE001 - whoever waits must get an answer, whatever went wrong
            # SystemExit as well, which comes up wherever a worker is when gunicorn ends it for hanging: what waits is
            # still stored meanwhile.
            refusal = _refusal_of(error)
            for submission in group:
                submission.error = refusal
        finally:
            recorder.observe("ingest_group_events", float(sum(s.events for s in group)))
            recorder.observe("ingest_group_ms", (time.perf_counter() - started_at) * 1000)
            for submission in group:
                submission.done.set()

    def _keep(self, group: list[_Submission]) -> None:
        if self._away:
            self._keep_in_spool(self._refuse_floods(group))
            return
        batch = self._make_batch(group)
        try:
            batches.store(self._engine, batch)
            self._probe_every_s = PROBE_EVERY_S
        except DBAPIError as error:
            if batches.is_row_fault(error):
                self._keep_apart(group, error)
                return
            self._go_away(error, batches.is_stopped(error))
            # Whole, whosever it is: perhaps it was committed after all, and nobody may be told that it was not.
            self._keep_in_spool(group, batch)
        except PoolTimeoutError as error:
            self._go_away(error)
            self._keep_in_spool(group, batch)

    def _refuse_floods(self, group: list[_Submission]) -> list[_Submission]:
        """Refuse the requests of projects whose share of the spool is full; return the others."""
        full = self._spool.room.full_for(_sizes_of(group))
        if not full:
            return group
        for submission in group:
            if submission.project_id in full:
                submission.error = Unavailable(
                    "The database is away and this project's share of the spool is full.", retry_after_s=30
                )
                recorder.count("ingest_refused", submission.events)
        return [submission for submission in group if submission.error is None]

    def _keep_in_spool(self, group: list[_Submission], batch: Batch | None = None) -> None:
        if group:
            self._spool.append(batch or self._make_batch(group), _sizes_of(group))

    def _keep_apart(self, group: list[_Submission], error: DBAPIError) -> None:
        """Store each request's rows by themselves, so that one bad row costs only its own request."""
        if len(group) == 1:
            log.error("PostgreSQL refused %d events: %s", group[0].events, batches.first_line(error))
            group[0].error = Unavailable("The database refused the event.", retry_after_s=60)
            return
        for submission in group:
            try:
                self._keep([submission])
            except BaseException as fault:  # noqa: BLE001 - see _finish; others of the group may be stored already
                submission.error = _refusal_of(fault)

    def _make_batch(self, group: list[_Submission]) -> Batch:
        rows = [row for submission in group for row in submission.rows]
        claiming = [row for submission in group for row in submission.claiming]
        blocks = [submission.lines for submission in group if submission.lines]
        batch_id = self._ids.next()
        return Batch(
            batch_id, self._ids.writer, sum(submission.events for submission in group),
            batches.join_rows(rows), batches.join_rows(claiming), batches.join_lines(batch_id, blocks),
        )  # fmt: skip

    def _go_away(self, error: Exception, may_be_there: bool = False) -> None:
        """Let groups go to the spool until a probe says otherwise; it is made at once where that may well be so."""
        log.warning("PostgreSQL is away, events go to the spool: %s", str(getattr(error, "orig", error)).strip())
        self._away = True
        is_first = self._probe_every_s == PROBE_EVERY_S
        self._probe_at = time.monotonic() + (0.0 if may_be_there and is_first else self._probe_every_s)
        self._probe_every_s = min(self._probe_every_s * 2, PROBE_AT_MOST_EVERY_S)
        self._begin_probe()

    def _begin_probe(self) -> None:
        """Ask beside the writer whether PostgreSQL is back: the answer may be seconds in coming, or never come."""
        if not self._is_probing and time.monotonic() >= self._probe_at:
            self._is_probing = True
            threading.Thread(target=self._probe, name="group-writer-probe", daemon=True).start()

    def _probe(self) -> None:
        self._probe_at = time.monotonic() + PROBE_EVERY_S
        try:
            batches.probe(self._engine)
        except (DBAPIError, PoolTimeoutError):
            pass
        else:
            self._away = False
            log.warning("PostgreSQL is back, events are committed to it again")
        finally:
            self._is_probing = False

    def _write_drops(self) -> None:
        if not self._drops or self._away:
            return
        drops, self._drops = self._drops, Counter()
        rows = [
            {"project_id": project_id, "day": day, "reason": reason, "events": events}
            for (project_id, day, reason), events in drops.items()
        ]
        try:
            with self._engine.begin() as connection:
                connection.execute(batches.Q.count_drops, {"drops": batches.encode(rows).decode()})
        except (DBAPIError, PoolTimeoutError):
            self._drops.update(drops)
        except Exception:
            # Whatever it is, the writer must go on: requests wait for it.
            log.exception("%d kinds of dropped events could not be counted", len(drops))


def _refusal_of(error: BaseException) -> PulseError:
    """Return what those are told whose events could not be stored, and log what was not foreseen."""
    if isinstance(error, PulseError):
        return error
    log.error("events could not be stored", exc_info=error)
    return Unavailable("The events could not be stored.", retry_after_s=5)


def _sizes_of(group: list[_Submission]) -> dict[int, int]:
    """Return the bytes by project."""
    sizes: Counter[int] = Counter()
    for submission in group:
        sizes[submission.project_id] += submission.size_bytes()
    return sizes
