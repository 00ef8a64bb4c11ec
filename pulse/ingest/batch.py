"""One group of events on its way to PostgreSQL: what is sent, and how its outcome is read.

Many rows are sent as lines of COPY, which PostgreSQL takes in half the time (7 instead of 12 µs a row) but which costs
a second round trip; a line is what msgspec makes of the row's values as a JSON array: read as CSV with a backslash for
escapes it means the same, as long as it escapes nothing but quotation marks and backslashes.
"""

import re
import time
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from pulse.ingest.pipeline import EventRow
from pulse.storage.green_copy import followed_by_copy
from pulse.storage.patience import Unanswered
from pulse.storage.sql import load_queries

Q = load_queries("ingest")
_COPY = str(Q.copy_events)

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
# An escape of another character than these two, or two backslashes with something else behind.
_OTHER_ESCAPE = re.compile(rb'\\[^"\\]')

_COUNT_MASK = 0xFFFFF
_UNIQUE_VIOLATION = "23505"
# The classes of SQLSTATE that speak of the rows themselves: bad data, broken constraints, limits of the program. All
# others say that PostgreSQL is away (08, 57P), full (53), read-only (25), ill (58, XX) or of another schema (42).
_ROW_FAULTS = ("22", "23", "54")
# Rolled back for the sake of another session: deadlocks and the like (class 40).
_ROLLED_BACK = "40"
# A lock that is taken, and a statement that was stopped, by its time limit or by somebody.
_STOPPED = ("55P03", "57014")
_TRIES = 3
_QUICK_S = 1.0


class Batch(msgspec.Struct, gc=False):
    """A group commit: `rows` are a JSON array of event rows; `claiming` are those with an id that its client chose.

    Rows that come in numbers are `lines` of COPY instead, each after the batch's id. Any of the three is empty when
    there are none. (`id`, `writer`) makes storing it idempotent.
    """

    id: int
    writer: str
    events: int
    rows: str = ""
    claiming: str = ""
    lines: bytes = b""


class BatchIds:
    """Ascending batch ids, unique within the process; together with `writer` unique everywhere.

    They are milliseconds since 1970 times 2^20, plus a count: the index on `events.batch_id` grows at its right end.
    All are greater than `after`, even if the clock was set back meanwhile.
    """

    def __init__(self, after: int = 0) -> None:
        self.writer = str(uuid4())
        self._offset = UUID(self.writer).int & _COUNT_MASK
        self._last = after

    def next(self) -> int:
        """Return an id greater than all before."""
        self._last = max((time.time_ns() // 1_000_000 << 20) | self._offset, self._last + 1)
        return self._last


def newest_id() -> int:
    """Return an id that no batch made so far exceeds, by this machine's clock."""
    return time.time_ns() // 1_000_000 << 20 | _COUNT_MASK


def probe(engine: Engine) -> None:
    """Return when events can be stored, of which it stores none. Raises DBAPIError, or TimeoutError of the pool."""
    with engine.begin() as connection:
        connection.execute(Q.probe)


def store(engine: Engine, batch: Batch) -> None:
    """Commit the batch, exactly once however often this is called for it.

    Raises DBAPIError; `is_row_fault` tells whether the rows or the database are to blame.
    """
    for tries_left in reversed(range(_TRIES)):
        began_at = time.monotonic()
        try:
            _execute(engine, batch)
            return
        except DBAPIError as error:
            code = sqlstate(error)
            # After a long wait for a lock the next one would be as long: the spool is quicker.
            was_quick = code in _STOPPED and time.monotonic() - began_at < _QUICK_S
            if tries_left and (was_quick or code.startswith(_ROLLED_BACK)) and not error.connection_invalidated:
                continue
            is_repeat = code == _UNIQUE_VIOLATION
            if isinstance(error.orig, Unanswered) or not (is_repeat or error.connection_invalidated):
                raise  # who gave no answer would not answer the question either: the spool asks later
            # The connection may have died while it idled, after the commit, or while PostgreSQL was still at it (the
            # second try then waits for the first one's row): only the database knows.
            if is_stored(engine, batch):
                return
            if is_repeat or not tries_left:
                raise


def split(batch: Batch) -> list[Batch]:
    """Return a batch of its own for each row, the same ones whenever it is asked: storing them stays idempotent."""
    parts: list[Batch] = []

    def next_part() -> Batch:
        writer = uuid5(UUID(batch.writer), f"{batch.id}/{len(parts)}")
        parts.append(Batch(batch.id & ~_COUNT_MASK | writer.int & _COUNT_MASK, str(writer), 1))
        return parts[-1]

    for field in ("rows", "claiming"):
        for row in msgspec.json.decode(getattr(batch, field) or "[]", type=list[msgspec.Raw]):
            setattr(next_part(), field, f"[{bytes(row).decode()}]")
    for line in batch.lines.splitlines():
        part = next_part()
        part.lines = b"%d,%b\n" % (part.id, line.partition(b",")[2])
    return parts


def parameters_of(batch: Batch) -> dict[str, Any]:
    """Return what the statement `store` takes."""
    return {
        "batch_id": batch.id, "writer": batch.writer, "events": batch.events,
        "plain": batch.rows or None, "claiming": batch.claiming or None,
    }  # fmt: skip


def _execute(engine: Engine, batch: Batch) -> None:
    with engine.begin() as connection:
        if batch.lines:
            with followed_by_copy(connection, _COPY, batch.lines):
                connection.execute(Q.store, parameters_of(batch))
        else:
            connection.execute(Q.store, parameters_of(batch))


def is_stored(engine: Engine, batch: Batch) -> bool:
    """Tell whether an earlier try was committed."""
    with engine.begin() as connection:
        return bool(connection.execute(Q.is_stored, {"batch_id": batch.id, "writer": batch.writer}).scalar())


def is_row_fault(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL refused the rows, as opposed to being away, full, read-only or overloaded."""
    return sqlstate(error).startswith(_ROW_FAULTS)


def is_stopped(error: DBAPIError) -> bool:
    """Tell whether only this batch may be concerned, as it was stopped or rolled back for the sake of others."""
    code = sqlstate(error)
    return code in _STOPPED or code.startswith(_ROLLED_BACK)


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's five letters for an error, empty text where it did not answer."""
    return getattr(error.orig, "pgcode", None) or ""


def first_line(error: DBAPIError) -> str:
    """Return what PostgreSQL says is wrong, without the row that it quotes below."""
    return str(error.orig).strip().partition("\n")[0]


def join_rows(rows: list[str]) -> str:
    """Return encoded rows as one JSON array, empty text when there are none."""
    return f"[{','.join(rows)}]" if rows else ""


def lines_of(rows: list[EventRow]) -> tuple[bytes, list[EventRow]]:
    """Return rows as lines for `join_lines`, and those of them that have to go as JSON."""
    lines = _encoder.encode_lines([_values_of(row) for row in rows])
    if _OTHER_ESCAPE.search(lines) is None:
        return lines, []
    fit: list[bytes] = []
    unfit: list[EventRow] = []
    for row, line in zip(rows, lines.split(b"\n"), strict=False):
        # Escaped control characters mean something else in CSV.
        if b"\\" in line and b"\\" in line.replace(b"\\\\", b"").replace(b'\\"', b""):
            unfit.append(row)
        else:
            fit.append(line + b"\n")
    return b"".join(fit), unfit


def _values_of(row: EventRow) -> tuple[Any, ...]:
    values = astuple(row)
    return values if row.custom_data is None else (*values[:-1], str(row.custom_data, "utf-8"))


def join_lines(batch_id: int, blocks: list[bytes]) -> bytes:
    """Return the lines of several calls of `lines_of` as COPY takes them; empty when there are none.

    Each line is a JSON array so far: its brackets go, its batch's id comes in front.
    """
    lines = b"".join(blocks).split(b"\n")
    lines.pop()  # behind the last line's end
    start = b"%d," % batch_id
    return start + (b"\n" + start).join([line[1:-1] for line in lines]) + b"\n" if lines else b""
