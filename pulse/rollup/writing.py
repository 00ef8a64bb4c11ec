"""What a fold writes: sessions in place of those they were made from, and summary rows with their sketches merged."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, chain
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, TextClause

from pulse.rollup import spans
from pulse.rollup.copying import (
    NOTHING,
    array,
    insert_rows,
    pack_bytes,
    pack_date,
    pack_time,
    read_rows,
)  # fmt: skip
from pulse.rollup.pace import Pace
from pulse.rollup.reading import Event, Q, Share
from pulse.rollup.sessions import CHANGES, COLUMNS, GAP_US, Groups, Place, Session, find_bounds, find_gap
from pulse.rollup.summaries import SLOT_US, TOTAL, LiveRow, Row, Summaries
from pulse.storage import heads, sketch
from pulse.storage.localtime import epoch_us, from_epoch_us

# Sessions are looked for this far back from their next event; a session that never pauses is cut there. Bounds the
# partitions that a fold searches to three.
REACH = timedelta(days=31)
_REACH_US = REACH // timedelta(microseconds=1)
_at_us = attrgetter("at_us")

# Values of one dimension and day; the others are counted together.
MAX_VALUES = 1000
OTHER = "(other)"
# PostgreSQL refuses an index entry over 2,704 bytes; the rest of the key takes less than 100.
VALUE_MAX_BYTES = 2000

_STAGE = (
    "kind", "project_id", "pageviews", "events", "sessions", "bounces", "duration_ms", "at", "day", "last_at",
    "dimension", "value", "visitors",
)  # fmt: skip
# A row of it up to the first field that may be NULL.
_STAGED = Struct(">hi1siiiqiqiqiqiq")
_PROJECT = Struct(">ii")
# What a project with a day, or with an instant, takes in a key.
_DAY_BYTES, _TIME_BYTES = 16, 20


class Wanted(msgspec.Struct, gc=False):
    """A row of summary_daily to look up, and whether to load its sketch."""

    project_id: int
    day: date
    dimension: str
    value: str
    load: bool


class Key(NamedTuple):
    """The key of a row of summary_daily."""

    project_id: int
    day: date
    dimension: str
    value: str


def take_sessions(
    connection: Connection, events: Sequence[Event], groups: Groups, share: Share
) -> dict[tuple[int, int], list[Session]]:
    """Return the stored sessions that new events may belong to, by project and key; `put_sessions` replaces them.

    The events come as groups as well. The sessions share their values with them.
    """
    times = list(map(_at_us, events))
    first_us, last_us = min(times), max(times)
    gap_us = find_gap(events)
    span = {
        "first_at": from_epoch_us(first_us - gap_us - _REACH_US),
        "last_at": from_epoch_us(last_us + gap_us),
        "open_at": from_epoch_us(first_us - gap_us),
    }
    near_us, reach_us = last_us - GAP_US, last_us - _REACH_US
    taken: defaultdict[tuple[int, int], list[Session]] = defaultdict(list)
    bounds: dict[tuple[int, int], tuple[int, int]] = {}
    for row in read_rows(connection, Q.read_sessions, {**_list_keys(groups), **span}):
        session = Session.read(row, share)
        key = session.project_id, session.session_key
        # Near enough to any event there is, for short; else to the events of its key: the statement knows only the
        # times of all keys.
        if not (session.ended_us >= near_us and reach_us <= session.started_us <= first_us):
            if key not in bounds:
                bounds[key] = find_bounds(groups[key])
            low_us, high_us = bounds[key]
            if session.ended_us < low_us or not low_us - _REACH_US <= session.started_us <= high_us:
                continue
        session.remember()
        taken[key].append(session)
    return taken


def _list_keys(groups: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Return all session keys as one array, and which slice of it is each project's."""
    by_project: dict[int, list[int]] = defaultdict(list)
    for project_id, session_key in groups:
        by_project[project_id].append(session_key)
    ends = list(accumulate(map(len, by_project.values())))
    return {
        "session_keys": array(chain(*by_project.values())),
        "project_ids": array(by_project),
        "starts": array([1, *(end + 1 for end in ends[:-1])]),
        "ends": array(ends),
    }


class Replaced:
    """Sessions that are stored in place of those they were made from, `taken`; about so many will be added.

    Rows that go on are updated, all others are made anew. Where few go on, they lie on the newest pages and fill these:
    then an update spares nothing (3 % more of the fold's time with one in seven).
    """

    def __init__(self, taken: Iterable[Session], number: int) -> None:
        self.taken = [session.stored for session in taken]
        self.kept: list[Place | None] = []
        self.rows: list[bytes] = []
        self.changes: list[bytes] = []
        self._many_go_on = 0 < number <= len(self.taken) * 4

    def add(self, sessions: Iterable[Session]) -> None:
        """Pack further sessions."""
        if not self._many_go_on:
            self.rows += map(Session.row, sessions)
            return
        for session in sessions:
            if session.goes_on:
                self.changes.append(session.changes())
                self.kept.append(session.stored)
            else:
                self.rows.append(session.row())


def put_sessions(connection: Connection, replaced: Replaced) -> None:
    """Store the sessions."""
    taken, kept = replaced.taken, replaced.kept
    if taken:
        connection.execute(Q.switch_index_scans, {"switch": "off"})
        gone = set(taken).difference(kept) if len(kept) < len(taken) else ()
        for binds, places in _by_partition(gone):
            connection.execute(Q.delete_sessions, {**binds, "rows": array(places)})
        if replaced.changes:
            connection.execute(Q.make_session_stage)
            insert_rows(connection, "fold_sessions", CHANGES, replaced.changes)
        for binds, _ in _by_partition(kept):
            connection.execute(Q.update_sessions, binds)
        connection.execute(Q.switch_index_scans, {"switch": "on"})
    insert_rows(connection, "sessions", COLUMNS, replaced.rows)


def _by_partition(stored: Iterable[Place | None]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Give out each partition with bounds that leave out all others, and the places as items of an array."""
    places: defaultdict[int, list[Place]] = defaultdict(list)
    for place in stored:
        if place is not None:
            places[place[0]].append(place)
    for partition, found in places.items():
        starts = [place[3] for place in found]
        first_at, last_at = from_epoch_us(min(starts)), from_epoch_us(max(starts))
        binds = {"partition": partition, "first_at": first_at, "last_at": last_at}
        yield binds, [f'"({block},{line})"' for _, block, line, *_ in found]


def write_summaries(connection: Connection, summaries: Summaries, pace: Pace | None = None) -> None:
    """Add everything to the summaries that are stored."""
    pace = pace or Pace()
    days, stage = _stage_daily(connection, summaries, pace)
    late = {length: _stage_spans(connection, length, days) for length in spans.TABLES}
    stage += chain(*late.values(), _stage_hourly(connection, summaries), _stage_live(connection, summaries, pace))
    if not stage:
        return
    connection.execute(Q.make_stage)
    insert_rows(connection, "fold_stage", _STAGE, stage)
    connection.execute(Q.add_daily)
    connection.execute(Q.add_hourly)
    if summaries.live:
        connection.execute(Q.add_live)
    for length in late:
        if late[length]:
            spans.add(connection, length)
    heads.note_late(connection)


def clip(value: str) -> str:
    """Return a value, cut where it is too long for an index."""
    if len(value) * 4 <= VALUE_MAX_BYTES:
        return value
    return value.encode()[:VALUE_MAX_BYTES].decode(errors="ignore")


def _stage_daily(
    connection: Connection, summaries: Summaries, pace: Pace
) -> tuple[dict[Key, Row], list[bytes]]:
    """Return what is added to the days, and that as rows to stage."""
    rows: dict[Key, Row] = {}
    for (project_id, day), dimensions in summaries.days.items():
        for dimension, by_value in dimensions:
            for value in pace.spread(sorted(by_value)):
                row = by_value[value]
                if row.is_nothing():
                    continue
                key = Key(project_id, day, dimension, clip(value))
                if key in rows:
                    rows[key].add(row)
                else:
                    rows[key] = row
    sketches = _load_daily(connection, rows)
    rows = _limit_values(connection, rows, sketches)
    return rows, [_stage_row(b"d", key, rows[key], sketches.get(key)) for key in pace.spread(rows)]


def _stage_spans(connection: Connection, length: str, days: dict[Key, Row]) -> list[bytes]:
    """Return what late days add to their weeks or months, where those are added up: nearly always nothing."""
    starts = spans.find_of_days(connection, length, {key[:2] for key in days}, datetime.now(UTC))
    if not starts:
        return []
    rows: defaultdict[Key, Row] = defaultdict(Row)
    for key, row in days.items():
        if key[:2] in starts:
            rows[key._replace(day=starts[key[:2]])].add(row)
    keys = [key._asdict() for key, row in rows.items() if row.crowds]
    found = spans.read_sketches(connection, length, keys)
    sketches = {Key(one.project_id, one.day, one.dimension, one.value): bytes(one.visitors) for one in found}
    return [_stage_row(length[:1].encode(), key, rows[key], sketches.get(key)) for key in sorted(rows)]


def _stage_row(kind: bytes, key: Key, row: Row, visitors: bytes | None) -> bytes:
    lg_k = sketch.HEADLINE_LG_K if key.dimension == TOTAL else sketch.DIMENSION_LG_K
    place = NOTHING, pack_date(key.day), NOTHING, _pack_text(key.dimension), _pack_text(key.value)
    return b"".join((_head(kind, key.project_id, row), *place, _add_crowds(visitors, row, lg_k)))


def _head(kind: bytes, project_id: int, row: Row) -> bytes:
    return _STAGED.pack(
        len(_STAGE), 1, kind, 4, project_id, 8, row.pageviews, 8, row.events, 8, row.sessions, 8, row.bounces,
        8, row.duration_ms,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _pack_text(text: str) -> bytes:
    """Return a text as a binary field, remembered: fold after fold most values are the same ones."""
    return pack_bytes(text.encode())


def _add_crowds(visitors: bytes | None, row: Row | LiveRow, lg_k: int) -> bytes:
    """Return the field of a row's sketch with its crowds counted in; empty where it stays as it is."""
    data = sketch.EMPTY
    if row.crowds:
        data = sketch.add_visitors(visitors or sketch.EMPTY, chain(*row.crowds), lg_k)
    return pack_bytes(sketch.EMPTY if data == visitors else data)


def _load_daily(connection: Connection, rows: dict[Key, Row]) -> dict[Key, bytes | None]:
    """Return the rows that exist; the sketch only where visitors are to be added."""
    wanted = [Wanted(*key, load=bool(row.crowds)) for key, row in rows.items()]
    found = _read_sketches(connection, Q.read_daily, wanted, _DAY_BYTES, 2)
    places = {_place_of(key): key for key in rows}
    return {places[place]: visitors for place, visitors in found.items()}


def _place_of(key: Key) -> bytes:
    """Return the key as `_read_sketches` does."""
    texts = _pack_text(key.dimension), _pack_text(key.value)
    return b"".join((_PROJECT.pack(4, key.project_id), pack_date(key.day), *texts))


def _read_sketches(
    connection: Connection, statement: TextClause, keys: Sequence[Any], fixed_bytes: int, texts: int
) -> dict[bytes, bytes | None]:
    """Return kept sketches by the binary fields of their keys: `fixed_bytes` of them, then so many `texts`."""
    found = {}
    for row in read_rows(connection, statement, {"keys": msgspec.json.encode(keys).decode()}):
        end = 2 + fixed_bytes
        for _ in range(texts):
            end += 4 + int.from_bytes(row[end : end + 4])
        found[row[2:end]] = None if row[end : end + 4] == NOTHING else row[end + 4 :]
    return found


def _limit_values(
    connection: Connection, rows: dict[Key, Row], sketches: dict[Key, bytes | None]
) -> dict[Key, Row]:
    """Put values that a full dimension has no row for into its '(other)', and load the sketch of that.

    The most frequent of the new values get the places that are left. A row once made is never taken away: what is
    subtracted later is so found where it was added.
    """
    new: dict[tuple[int, date, str], list[Key]] = defaultdict(list)
    for key in rows:
        if key not in sketches and key.dimension != TOTAL and key.value != OTHER:
            new[key[:3]].append(key)
    if not new:
        return rows
    groups = [{"project_id": p, "day": day, "dimension": dimension} for p, day, dimension in new]
    binds = {"groups": msgspec.json.encode(groups).decode(), "other": OTHER}
    held = {(row[0], row[1], row[2]): row[3] for row in connection.execute(Q.count_values, binds)}
    limited, others = dict(rows), dict[Key, Row]()
    for group, keys in new.items():
        keys.sort(key=lambda key: (-rows[key].events, -rows[key].sessions, key.value))
        for key in keys[max(MAX_VALUES - held.get(group, 0), 0) :]:
            other = Key(*group, OTHER)
            if other not in others:
                others[other] = limited.pop(other) if other in limited else Row()
            others[other].add(limited.pop(key))
    if others:
        sketches.update(_load_daily(connection, others))
    return limited | others


def _stage_hourly(connection: Connection, summaries: Summaries) -> list[bytes]:
    rows = {key: row for key, row in summaries.hours.items() if not row.is_nothing()}
    keys = [{"project_id": project_id, "starts_at": starts_at} for project_id, starts_at in rows]
    sketches = _read_sketches(connection, Q.read_hourly, keys, _TIME_BYTES, 0)
    staged = []
    for (project_id, starts_at), row in rows.items():
        at = pack_time(epoch_us(starts_at))
        visitors = _add_crowds(sketches.get(_PROJECT.pack(4, project_id) + at), row, sketch.HEADLINE_LG_K)
        staged.append(b"".join((_head(b"h", project_id, row), at, NOTHING * 4, visitors)))
    return staged


def _stage_live(connection: Connection, summaries: Summaries, pace: Pace) -> list[bytes]:
    if not summaries.live:
        return []
    rows: dict[tuple[int, int, str], LiveRow] = {}
    for (project_id, slot, path), row in summaries.live.items():
        key = project_id, slot * SLOT_US, clip(path)
        if key in rows:
            rows[key].add(row)
        else:
            rows[key] = row
    keys = [
        {"project_id": project_id, "slot_at": from_epoch_us(slot_us), "path": path}
        for project_id, slot_us, path in rows
    ]
    sketches = _read_sketches(connection, Q.read_live, keys, _TIME_BYTES, 1)
    staged = []
    for key in pace.spread(rows):
        project_id, slot_us, path = key
        row = rows[key]
        at, text = pack_time(slot_us), _pack_text(path)
        visitors = _add_crowds(sketches.get(b"".join((_PROJECT.pack(4, project_id), at, text))), row, sketch.LIVE_LG_K)
        head = _STAGED.pack(
            len(_STAGE), 1, b"l", 4, project_id, 8, row.pageviews, 8, row.events, 8, 0, 8, 0, 8, 0
        )  # fmt: skip
        staged.append(b"".join((head, at, NOTHING, pack_time(row.last_us), NOTHING, text, visitors)))
    return staged
