"""Rows in COPY's binary form, to PostgreSQL and back, and in parts."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from pulse.rollup.copying import (
    NOTHING,
    insert_rows,
    pack_bytes,
    pack_date,
    pack_texts,
    pack_time,
    read_rows,
    stream_rows,
)
from pulse.rollup.fold import fold_once
from pulse.rollup.reading import MARK
from pulse.rollup.rebuild import rebuild
from tests.db.rollup.conftest import commit_batch, make_event
from tests.db.rollup.state import check

COLUMNS = ("at", "day", "said", "data")
_MAKE = text("CREATE TEMPORARY TABLE kept (at timestamptz, day date, said text, data bytea)")
_READ = text("SELECT at, day, said, data FROM kept WHERE said IS DISTINCT FROM :unwanted ORDER BY at")
COUNT = len(COLUMNS).to_bytes(2)
MORNING = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=12)


@pytest.mark.parametrize("count", [0, 1, 4500])
def test_rows_come_back_as_they_were(engine: Engine, count: int) -> None:
    fields = (pack_date(date(1999, 12, 31)), pack_texts(["þ\t\\N\n"]), pack_bytes(b"\x00\xff\xfe"))
    rows = [COUNT + b"".join((pack_time(946_684_799_000_000 + number), *fields)) for number in range(count)]
    with engine.begin() as connection:
        connection.execute(_MAKE)
        insert_rows(connection, "kept", COLUMNS, rows)
        binds = {"unwanted": "it's %"}
        assert read_rows(connection, _READ, binds) == rows
        assert list(stream_rows(connection, _READ, binds)) == rows
        found = connection.execute(_READ, binds).fetchall()
    assert len(found) == count
    if found:
        first = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), date(1999, 12, 31), "þ\t\\N\n", b"\x00\xff\xfe"
        assert (*found[0][:3], bytes(found[0][3])) == first


def test_nothing_is_null(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(_MAKE)
        insert_rows(connection, "kept", COLUMNS, [COUNT + NOTHING * 4])
        assert connection.execute(_READ, {"unwanted": ""}).fetchall() == [(None, None, None, None)]


def test_ids_may_hold_what_parts_of_rows_begin_with(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    ids = [str(UUID(bytes=bytes(number) + MARK + bytes(8 - number))) for number in range(9)]
    events = [
        make_event(project_id, MORNING + timedelta(minutes=n), id=one, visitor=1 + n * is_new, path=f"/{n}", os="Linux")
        for is_new, found in ((0, ids), (1, [one[:-1] + "1" for one in ids]))
        for n, one in enumerate(found)
    ]
    for number in range(len(ids)):
        # A session that goes on is read as it is stored, with the ids it begins and ends with.
        commit_batch(engine, [events[number], events[number + len(ids)]])
        fold_once(engine)
    check(engine, events, {project_id: "UTC"})
    rebuild(engine, project_id, MORNING.date(), MORNING.date())
    check(engine, events, {project_id: "UTC"})
