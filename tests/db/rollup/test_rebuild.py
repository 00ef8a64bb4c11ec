"""Days counted anew are the same as the folded ones, in the project's present zone."""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.rollup import rebuild as rebuilding
from pulse.rollup.fold import fold_once
from pulse.rollup.rebuild import rebuild
from pulse.storage.engine import build_engine
from tests.db.rollup.conftest import commit_batch, make_event, rows_of
from tests.db.rollup.state import check, stored_daily, stored_hourly

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
FIRST, LAST = NOON.date() - timedelta(days=3), NOON.date() + timedelta(days=3)


def _events(project_id: int, count: int = 60) -> list[dict[str, Any]]:
    return [
        make_event(
            project_id, NOON + timedelta(minutes=37 * n), visitor=n % 7, path=f"/{n % 5}", country=[None, "DE"][n % 2],
            event_type=["pageview", "click", "engagement"][n % 3],
        )
        for n in range(count)
    ]  # fmt: skip


def test_another_zone(engine: Engine, new_project: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "CHUNK", 7)
    project_id, other = new_project(), new_project()
    events, others = _events(project_id), _events(other)
    commit_batch(engine, events + others)
    fold_once(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE projects SET timezone = 'Asia/Kolkata' WHERE id = :id"), {"id": project_id})
    assert rebuild(engine, project_id, FIRST, LAST) == 40
    check(engine, events + others, {project_id: "Asia/Kolkata", other: "UTC"})
    late = [make_event(project_id, NOON - timedelta(minutes=20), visitor=1), make_event(other, NOON)]
    commit_batch(engine, late)
    fold_once(engine)
    check(engine, events + others + late, {project_id: "Asia/Kolkata", other: "UTC"})


def test_only_the_days_asked_for(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    commit_batch(engine, _events(project_id))
    fold_once(engine)
    daily, hourly = stored_daily(engine, [project_id]), stored_hourly(engine, [project_id])
    with engine.begin() as connection:
        connection.execute(text("UPDATE summary_daily SET pageviews = pageviews + 1000"))
        connection.execute(text("UPDATE summary_hourly SET pageviews = pageviews + 1000"))
    day = NOON.date() + timedelta(days=1)
    rebuild(engine, project_id, day, day)
    for was, now in ((daily, stored_daily(engine, [project_id])), (hourly, stored_hourly(engine, [project_id]))):
        assert now.keys() == was.keys()
        for key, figures in now.items():
            on = key[1].date() if isinstance(key[1], datetime) else key[1]
            assert figures[0] == was[key][0] + (0 if on == day else 1000)


def test_waiting_events_are_left_to_the_fold(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    events = _events(project_id)
    commit_batch(engine, events[:30])
    fold_once(engine)
    commit_batch(engine, events[30:])
    rebuild(engine, project_id, FIRST, LAST)
    check(engine, events[:30], {project_id: "UTC"})
    fold_once(engine)
    check(engine, events, {project_id: "UTC"})


def test_while_others_fold(config: Config, engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    events = _events(project_id, 200)
    for n in range(20):
        commit_batch(engine, events[n::20])
    done = threading.Event()

    def fold_all() -> None:
        own = build_engine(config, str(config.database_url))
        try:
            while fold_once(own, max_events=5).batches:
                pass
        finally:
            own.dispose()
            done.set()

    thread = threading.Thread(target=fold_all)
    thread.start()
    while not done.is_set():
        rebuild(engine, project_id, FIRST, LAST + timedelta(days=5))
    thread.join()
    check(engine, events, {project_id: "UTC"})


def test_days_without_raw_events_stay(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO summary_daily VALUES (5, 5, 1, 1, 0, :id, '2019-05-05', 'total', '', ''),"
                " (7, 7, 1, 1, 0, :id, :today, 'total', '', '')"
            ),
            {"id": project_id, "today": NOON.date()},
        )
    rebuild(engine, project_id, date(2019, 1, 1), LAST)
    assert list(stored_daily(engine, [project_id])) == [(project_id, date(2019, 5, 5), "total", "")]


def test_a_project_that_is_gone(engine: Engine) -> None:
    assert rebuild(engine, 404, FIRST, LAST) == 0


def test_a_failure_leaves_all_as_it_was(
    engine: Engine, new_project: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = new_project()
    commit_batch(engine, _events(project_id))
    fold_once(engine)
    before = rows_of(engine, "SELECT * FROM summary_daily ORDER BY day, dimension, value")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuilding, "write_summaries", fail)
    with pytest.raises(KeyboardInterrupt):
        rebuild(engine, project_id, FIRST, LAST)
    assert [bytes(row.visitors) for row in before]
    after = rows_of(engine, "SELECT * FROM summary_daily ORDER BY day, dimension, value")
    assert [tuple(map(_plain, row)) for row in after] == [tuple(map(_plain, row)) for row in before]


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
