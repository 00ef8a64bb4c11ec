"""Past days of projects as columns: a copy of their sessions and events that filtered reports read instead.

A pack says nothing about sessions whose keys it holds as loose: they changed after it was begun. Whoever changes
sessions calls `loosen` or `forget` in the same transaction.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, TextClause, text

from pulse.storage.columns import (
    EVENT_ARRAYS,
    EVENT_DIMENSIONS,
    VISIT_ARRAYS,
    VISIT_DIMENSIONS,
    Columns,
    from_arrays,
    pack_column,
    pack_figures,
    pack_numbers,
    unpack_column,
    unpack_figures,
    unpack_numbers,
)
from pulse.storage.sql import load_queries

Q = load_queries("segments")

_DIMENSIONS = (*VISIT_DIMENSIONS, *EVENT_DIMENSIONS)
# Events of the days that are fetched at a time: about 5 MB.
_FETCHED_EVENTS = 500_000

# Runs a statement with its parameters.
Run = Callable[[TextClause, dict[str, Any]], Sequence[Row[Any]]]
# A session as the packs know it: its key, and the microseconds since 1970 at which it began.
Place = tuple[int, int]


def plain(connection: Connection) -> Run:
    """Return what runs statements on a connection without further ado."""
    return lambda statement, binds: connection.execute(statement, binds).all()


class Conditions(NamedTuple):
    """What is asked of visits and events, as SQL with its parameters."""

    visits: str = "true"
    events: str = "true"
    binds: dict[str, Any] = {}  # noqa: RUF012


ALL = Conditions()


class Packed(NamedTuple):
    """A packed day: its span, how many visits and events it holds, and the keys of sessions that changed since."""

    starts_at: datetime
    ends_at: datetime
    visits: int
    hits: int
    loose: list[int]


def _statement(visits: str, events: str, conditions: Conditions) -> TextClause:
    parts = {"visit_conditions": conditions.visits, "event_conditions": conditions.events}
    bare = {name: getattr(Q, name).text.partition("*/")[2].format(**parts) for name in (visits, events)}
    return text(
        Q.read.text.format(
            attributes=", ".join(VISIT_DIMENSIONS),
            visits=bare[visits],
            events=bare[events],
            visit_arrays=", ".join(_array(name) for name in VISIT_ARRAYS),
            event_arrays=", ".join(_array(name) for name in EVENT_ARRAYS),
        )
    )


def _array(name: str) -> str:
    return f"CAST(json_agg({name}) AS text) AS {name}"


def read_between(
    run: Run, project_id: int, starts_at: datetime, ends_at: datetime, conditions: Conditions = ALL
) -> Columns:
    """Return the visits that began in [starts_at, ends_at), of which others may be left out that fail conditions."""
    statement = _statement("visits_between", "events_between", conditions)
    span = {"project_id": project_id, "starts_at": starts_at, "ends_at": ends_at}
    (row,) = run(statement, {**span, **conditions.binds})
    return from_arrays(dict(row._mapping))


def read_loose(
    run: Run, project_id: int, packs: Sequence[Packed], starts_at: datetime, conditions: Conditions = ALL
) -> Columns:
    """Return the visits of packed days that changed since; their minutes are counted from `starts_at` on."""
    loose = [(key, pack) for pack in packs for key in pack.loose]
    statement = _statement("visits_of_keys", "events_of_each", conditions)
    binds = {
        "project_id": project_id,
        "keys": [key for key, _ in loose],
        "lows": [pack.starts_at for _, pack in loose],
        "highs": [pack.ends_at for _, pack in loose],
        "starts_at": starts_at,
        "ends_at": max(pack.ends_at for pack in packs),
    }
    (row,) = run(statement, {**binds, **conditions.binds})
    return from_arrays(dict(row._mapping))


def find(run: Run, project_id: int, starts_at: datetime, ends_at: datetime) -> list[Packed]:
    """Return the packed days that begin in [starts_at, ends_at), in order."""
    binds = {"project_id": project_id, "starts_at": starts_at, "ends_at": ends_at}
    return [Packed(**row._mapping) for row in run(Q.find, binds)]


def load(run: Run, project_id: int, packs: Sequence[Packed], dimensions: Iterable[str]) -> Iterator[Columns]:
    """Give out the contents of packed days, of dimensions only those asked for; some 5 MB are held at a time."""
    names = [name for name in _DIMENSIONS if name in set(dimensions)]
    for days in _group(packs):
        keys = ["session_keys"] if any(pack.loose for pack in days) else []
        statement = text(Q.load.text.format(columns=", ".join(["figures", "visitors", *keys, *names])))
        for row in run(statement, {"project_id": project_id, "days": [pack.starts_at for pack in days]}):
            yield Columns(
                unpack_figures(row.figures),
                unpack_numbers(row.visitors),
                unpack_numbers(row.session_keys) if keys else None,
                {name: unpack_column(getattr(row, name)) for name in names},
            )


def _group(packs: Sequence[Packed]) -> Iterator[list[Packed]]:
    days: list[Packed] = []
    for pack in packs:
        days.append(pack)
        if sum(day.hits for day in days) >= _FETCHED_EVENTS:
            yield days
            days = []
    if days:
        yield days


def count_visits(run: Run, project_id: int, days: Sequence[date]) -> dict[date, int]:
    """Return about how many visits some local days have; a day without any may be missing."""
    return {row.day: row.sessions for row in run(Q.visits_of_days, {"project_id": project_id, "days": list(days)})}


def begin(connection: Connection, project_id: int, starts_at: datetime, ends_at: datetime) -> datetime | None:
    """Begin a pack, in a transaction that holds the fold's lock; return its mark, None for a project that is gone."""
    forget_day(connection, project_id, starts_at)
    span = {"project_id": project_id, "starts_at": starts_at, "ends_at": ends_at}
    begun_at: datetime | None = connection.execute(Q.begin, span).scalar()
    return begun_at


def finish(connection: Connection, project_id: int, starts_at: datetime, begun_at: datetime, found: Columns) -> bool:
    """Store what a pack that was begun holds; tell whether it was still wanted."""
    assert found.session_keys is not None
    parts = {
        "figures": pack_figures(found.figures),
        "visitors": pack_numbers(found.visitors),
        "session_keys": pack_numbers(found.session_keys),
        **{name: pack_column(found.dimensions[name]) for name in _DIMENSIONS},
    }
    statement = text(Q.finish.text.format(assignments=", ".join(f"{name} = :{name}" for name in parts)))
    place = {"project_id": project_id, "starts_at": starts_at, "begun_at": begun_at}
    sizes = {"visits": found.visits, "hits": int(found.figures.held.sum())}
    return connection.execute(statement, {**place, **sizes, **parts}).rowcount == 1


def loosen(connection: Connection, sessions: Iterable[tuple[int, Place]]) -> None:
    """Note that sessions (project and place) are no longer, or not yet, as packs of their days have them."""
    found = sorted(set(sessions))
    if found:
        binds = {
            "project_ids": [project_id for project_id, _ in found],
            "session_keys": [key for _, (key, _) in found],
            "starts": [started_us for _, (_, started_us) in found],
        }
        connection.execute(Q.loosen, binds)


def forget(connection: Connection, project_id: int, sessions: Iterable[Place]) -> None:
    """Delete the packs that hold some sessions."""
    found = sorted(set(sessions))
    if found:
        keys, starts = map(list, zip(*found, strict=True))
        connection.execute(Q.forget, {"project_id": project_id, "session_keys": keys, "starts": starts})


def forget_day(connection: Connection, project_id: int, starts_at: datetime) -> None:
    """Delete the pack that begins at an instant."""
    connection.execute(Q.forget_day, {"project_id": project_id, "starts_at": starts_at})


def forget_project(connection: Connection, project_id: int) -> None:
    """Delete all packs of a project."""
    connection.execute(Q.forget_project, {"project_id": project_id})
