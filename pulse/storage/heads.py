"""The first values of each dimension of a day, week or month: kept for spans that are over, ranked for others."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from pulse.storage.sql import load_queries

Q = load_queries("heads")

# Values kept of a dimension: ten times what a list shows, so that a value that is behind in some spans is known, too.
MOST = 100
# A head that later changes have made uncertain is made anew when it is so old.
REST = timedelta(hours=1)


class Head(NamedTuple):
    """The first values of one dimension of a span, best first, and their weights: what its list is ordered by.

    `rest` is the greatest weight a value has that is not among them, None where all are.
    """

    values: list[str]
    weights: list[int]
    rest: int | None


class Span(NamedTuple):
    """A span of a period: its heads by dimension, and by how much any value may have changed since they were made."""

    heads: dict[str, Head]
    late: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Head]).decode


def read_spans(
    connection: Connection, project_id: int, first_day: date, last_day: date, most_missing: int
) -> list[Span] | None:
    """Return the spans of a period in which something happened; None where more than `most_missing` have no heads."""
    found = connection.execute(Q.read, {"project_id": project_id, "start": first_day, "end": last_day}).all()
    missing = [(row.length, row.starts_on) for row in found if row.packed is None]
    if len(missing) > most_missing:
        return None
    kept = [Span(_decode(row.packed), row.late) for row in found if row.packed is not None]
    return kept + [Span(heads, 0) for heads in rank(connection, project_id, missing).values()]


def rank(
    connection: Connection, project_id: int, spans: Sequence[tuple[str, date]]
) -> dict[tuple[str, date], dict[str, Head]]:
    """Return the heads of some spans (length, first day) as the summaries are now; one without values is left out."""
    if not spans:
        return {}
    lengths, starts = map(list, zip(*spans, strict=True))
    rows = connection.execute(
        Q.rank, {"project_id": project_id, "lengths": lengths, "starts": starts, "most": MOST + 1}
    )
    found: dict[tuple[str, date], dict[str, Head]] = {}
    for (length, starts_on, dimension), group in groupby(rows, lambda row: row[:3]):
        ranked = [(row.value, row.weight) for row in group]
        values, weights = map(list, zip(*ranked[:MOST], strict=True))
        rest = ranked[MOST][1] if len(ranked) > MOST else None
        found.setdefault((length, starts_on), {})[dimension] = Head(values, weights, rest)
    return found


def find_missing(connection: Connection, now: datetime, limit: int) -> list[tuple[int, str, date]]:
    """Return spans (project, length, first day) that are over and whose heads are to be made, newest first."""
    rows = connection.execute(Q.find, {"now": now, "rest": REST, "limit": limit})
    return [(row.project_id, row.length, row.starts_on) for row in rows]


def make(connection: Connection, project_id: int, length: str, starts_on: date) -> None:
    """Keep the heads of a span as it is now, in a transaction in which nobody changes summaries."""
    heads = rank(connection, project_id, [(length, starts_on)]).get((length, starts_on), {})
    place = {"project_id": project_id, "length": length, "starts_on": starts_on}
    connection.execute(Q.write, {**place, "packed": _encode(heads)})


def note_late(connection: Connection) -> None:
    """Note in the heads by how much the summaries change that a fold has staged; in its transaction."""
    connection.execute(Q.note_late)


def forget_between(connection: Connection, project_id: int, first_day: date, last_day: date) -> None:
    """Delete the heads of all spans that have one of these days."""
    connection.execute(Q.forget_between, {"project_id": project_id, "first_day": first_day, "last_day": last_day})


def remove(connection: Connection, project_id: int) -> None:
    """Delete all heads of a project."""
    connection.execute(Q.remove, {"project_id": project_id})
