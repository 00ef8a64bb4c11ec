"""Packs of past days: made once a day has settled, told of every change, and gone with what they hold."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pulse.rollup import packing
from pulse.rollup.erasure import request_erasure, run_erasures
from pulse.rollup.fold import fold_once
from pulse.rollup.packing import Day, Packer, find_waiting, pack
from pulse.rollup.reading import Q as FOLD
from pulse.storage import schema, segments
from tests.db.rollup.conftest import commit_batch, make_event, pack_all, rows_of

New = Callable[..., int]
# The three days before the one that is still open, or not settled yet.
MIDNIGHT = (datetime.now(UTC) - packing.SETTLED_AFTER).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [MIDNIGHT - timedelta(days=3 - number) for number in range(3)]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST_VISITS", 0)


def visit(engine: Engine, project_id: int, at: datetime, visitor: int = 1, **facts: Any) -> None:
    commit_batch(engine, [make_event(project_id, at, visitor=visitor, **facts)])
    fold_once(engine)


def loose(engine: Engine) -> dict[date, list[int]]:
    rows = rows_of(engine, "SELECT starts_at, loose FROM day_segments WHERE packed_at IS NOT NULL ORDER BY starts_at")
    return {starts_at.date(): sorted(keys) for starts_at, keys in rows}


def test_days_are_packed_when_they_have_settled_newest_first(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    for at in (*DAYS, DAYS[0] + timedelta(days=3)):
        visit(engine, project_id, at)
    early = DAYS[2] + timedelta(days=1, minutes=59)
    assert [day for _, day in reversed(find_waiting(engine, early))] == [DAYS[1].date(), DAYS[0].date()]
    packer = Packer(engine)
    assert packer.run() + packer.run() + packer.run() == 3
    assert loose(engine) == {day.date(): [] for day in DAYS}
    assert pack_all(engine) == 0


def test_quiet_projects_are_left_alone(engine: Engine, new_project: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST_VISITS", 2)
    visit(engine, new_project(), DAYS[0])
    assert pack_all(engine) == 0


def test_what_changes_while_a_pack_is_made_is_noted(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    visit(engine, project_id, DAYS[0], visitor=5)
    day = Day(project_id, DAYS[0], DAYS[1])
    with engine.begin() as connection:
        connection.execute(FOLD.begin_fold)
        begun_at = segments.begin(connection, *day)
        assert begun_at
    with engine.begin() as connection:
        read = segments.read_between(segments.plain(connection), *day)
    visit(engine, project_id, DAYS[0] + timedelta(minutes=5), visitor=5)
    visit(engine, project_id, DAYS[0] + timedelta(hours=5), visitor=6)
    with engine.begin() as connection:
        assert segments.finish(connection, project_id, DAYS[0], begun_at, read)
    assert loose(engine) == {DAYS[0].date(): [5, 6]}
    with engine.begin() as connection:
        assert not segments.finish(connection, project_id, DAYS[0], begun_at, read)


def test_a_session_that_moves_to_the_day_before_is_loose_in_both(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    for at in DAYS:
        visit(engine, project_id, at, visitor=9)
    pack_all(engine)
    visit(engine, project_id, DAYS[1] - timedelta(minutes=10), visitor=9)
    assert loose(engine) == {DAYS[0].date(): [9], DAYS[1].date(): [9], DAYS[2].date(): []}


def test_much_changed_packs_are_made_anew(
    engine: Engine, new_project: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = new_project()
    visit(engine, project_id, DAYS[0])
    pack_all(engine)
    visit(engine, project_id, DAYS[0] + timedelta(hours=2))
    assert pack_all(engine) == 0
    assert loose(engine)[DAYS[0].date()] == [1]
    monkeypatch.setattr(packing, "MANY_LOOSE", 0)
    assert pack_all(engine) == 1
    assert loose(engine)[DAYS[0].date()] == []
    assert rows_of(engine, "SELECT visits, hits FROM day_segments ORDER BY starts_at LIMIT 1") == [(2, 2)]


def test_packs_that_hold_a_deleted_visitor_go_with_them(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    for at in DAYS[1:]:
        visit(engine, project_id, at, visitor=3)
    for at in DAYS:
        visit(engine, project_id, at + timedelta(hours=3), visitor=4)
    pack_all(engine)
    # From now on the session of the second day begins on the first; the second day's pack still holds the visitor.
    visit(engine, project_id, DAYS[1] - timedelta(minutes=10), visitor=3)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE occurred_at >= :at AND visitor = 3"), {"at": DAYS[2]})
        connection.execute(text("DELETE FROM sessions WHERE started_at >= :at AND visitor = 3"), {"at": DAYS[2]})
        request_erasure(connection, project_id, 3, 0)
    run_erasures(engine, lambda _: False)
    assert loose(engine) == {DAYS[2].date(): []}


def test_a_visitor_deleted_while_a_pack_is_made_is_not_in_it(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    visit(engine, project_id, DAYS[0], visitor=3)
    with engine.begin() as connection:
        connection.execute(FOLD.begin_fold)
        begun_at = segments.begin(connection, project_id, DAYS[0], DAYS[1])
        assert begun_at
    with engine.begin() as connection:
        read = segments.read_between(segments.plain(connection), project_id, DAYS[0], DAYS[1])
        request_erasure(connection, project_id, 3, 0)
    run_erasures(engine, lambda _: False)
    with engine.begin() as connection:
        assert not segments.finish(connection, project_id, DAYS[0], begun_at, read)
    assert loose(engine) == {}


def test_packs_of_another_time_zone_are_replaced(engine: Engine, new_project: New) -> None:
    project_id = new_project("UTC")
    visit(engine, project_id, DAYS[0] + timedelta(hours=12))
    pack_all(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE projects SET timezone = 'Asia/Kolkata'"))
    pack_all(engine)
    starts = {row[0].time().isoformat() for row in rows_of(engine, "SELECT starts_at FROM day_segments")}
    assert starts == {"18:30:00"}


def test_packs_go_with_the_months_that_are_no_longer_kept(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    visit(engine, project_id, DAYS[0])
    pack_all(engine)
    schema.drop_expired(engine, 0, DAYS[0].date() + timedelta(days=100))
    assert loose(engine) == {}


def test_a_deleted_project_gets_no_pack(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM projects WHERE id = :id"), {"id": project_id})
    assert not pack(engine, Day(project_id, DAYS[0], DAYS[1]))
    assert rows_of(engine, "SELECT 1 FROM day_segments") == []
