"""Events that come after their visitor was deleted: from the spool of a node that was cut off from PostgreSQL."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.ingest.batch import Batch, BatchIds, newest_id
from pulse.ingest.spool import Spool
from pulse.jobs import list_jobs
from pulse.rollup import erasure
from pulse.rollup.erasure import forget_visitors, reopen, run_erasures
from pulse.rollup.fold import fold_once
from pulse.storage.scheduling import Standing
from tests.db.rollup.conftest import commit_batch, make_event, rows_of
from tests.db.rollup.state import check
from tests.db.rollup.test_erasure import FORGOTTEN, NOON, ask, finish, make_events, nothing_spooled, others, state

New = Callable[..., int]
Replay = Callable[[], object]


@pytest.fixture
def spool(config: Config) -> Spool:
    """The spool of another node, which the worker that deletes does not see."""
    return Spool(config.data_dir / "spool")


@pytest.fixture
def replay(config: Config, engine: Engine) -> Replay:
    """The job of the other node's worker."""
    [job] = [job for job in list_jobs(engine, config, Standing()) if job.name == "replay"]
    return job.function


def append(spool: Spool, ids: BatchIds, events: list[dict[str, Any]]) -> None:
    spool.append(Batch(ids.next(), ids.writer, len(events), msgspec.json.encode(events).decode()), {})


def fold(engine: Engine) -> None:
    while fold_once(engine).batches:
        pass


def test_they_are_deleted_and_what_was_accepted_later_is_kept(
    engine: Engine, new_project: New, spool: Spool, replay: Replay
) -> None:
    project_id = new_project("Asia/Kolkata")
    events = make_events(project_id, 120)
    commit_batch(engine, events[:40])
    fold_once(engine)
    append(spool, BatchIds(), events[40:80])
    before = newest_id()
    asked = ask(engine, project_id, before)
    append(spool, BatchIds(after=before), events[80:100])
    first = finish(engine, asked)
    assert (first.status, first.events) == ("done", 40 - len(others(events[:40])))
    replay()
    fold(engine)
    reopened = state(engine, asked)
    assert (reopened.status, reopened.deleted_at, reopened.finished_at) == ("deleting", None, None)
    assert run_erasures(engine, nothing_spooled) == 1
    assert state(engine, asked).status == "recounting"
    done = finish(engine, asked)
    assert (done.status, done.events) == ("done", 80 - len(others(events[:80])))
    assert done.sessions > first.sessions
    append(spool, BatchIds(after=before), events[100:])
    replay()
    fold(engine)
    assert state(engine, asked) == done
    check(engine, others(events[:80]) + events[80:], {project_id: "Asia/Kolkata"})


def test_events_that_come_while_it_is_deleting(
    engine: Engine, new_project: New, spool: Spool, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = new_project()
    events = make_events(project_id, 80)
    commit_batch(engine, events[:40])
    fold_once(engine)
    append(spool, BatchIds(), events[40:])
    asked = ask(engine, project_id, newest_id())
    real = erasure._delete_piece

    def delete_what_was_read_before(*args: Any) -> None:
        replay()
        real(*args)

    monkeypatch.setattr(erasure, "_delete_piece", delete_what_was_read_before)
    assert run_erasures(engine, nothing_spooled) == 0
    assert state(engine, asked).status == "deleting"
    fold_once(engine)
    assert finish(engine, asked).status == "done"
    check(engine, others(events), {project_id: "UTC"})


@pytest.mark.parametrize(("at", "step"), [(erasure, "reopen"), (Path, "unlink"), (erasure, "_delete_piece")])
def test_a_kill_on_the_way_back_costs_nothing(
    engine: Engine, new_project: New, spool: Spool, replay: Replay, monkeypatch: pytest.MonkeyPatch, at: Any, step: str
) -> None:
    project_id = new_project()
    events = make_events(project_id, 80)
    commit_batch(engine, events[:40])
    fold_once(engine)
    append(spool, BatchIds(), events[40:])
    asked = ask(engine, project_id, newest_id())
    finish(engine, asked)

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(at, step, kill)
        replay()
        run_erasures(engine, nothing_spooled)
    assert len(spool.pending()) == (step != "_delete_piece")
    fold_once(engine)
    finish(engine, asked)
    replay()
    fold(engine)
    done = finish(engine, asked)
    assert (done.status, done.events) == ("done", 80 - len(others(events)))
    check(engine, others(events), {project_id: "UTC"})


def test_a_batch_stored_event_by_event(engine: Engine, new_project: New, spool: Spool, replay: Replay) -> None:
    project_id = new_project()
    visits = [make_event(project_id, NOON + timedelta(hours=hour), visitor=2 + hour) for hour in range(3)]
    refused = make_event(project_id, NOON, path="\0")
    ids = BatchIds()
    # The least of its millisecond: its parts, which have other counts, are greater.
    first = Batch(ids.next() >> 20 << 20, ids.writer, 4, msgspec.json.encode([*visits, refused]).decode())
    spool.append(first, {})
    asked = ask(engine, project_id, spool.newest())
    finish(engine, asked)
    replay()
    fold(engine)
    assert [path.suffix for path in spool.folder.glob("*-*")] == [".refused"]
    assert (done := finish(engine, asked)).status == "done"
    assert done.events == 1
    check(engine, others(visits), {project_id: "UTC"})


def test_whose_they_were_is_forgotten_after_two_weeks(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    asked = [ask(engine, project_id, newest_id()) for _ in range(3)]
    finish(engine, asked[0])
    ask(engine, project_id)  # waits
    with engine.begin() as connection:
        for one, days in zip(asked, (15, 13, 0), strict=True):
            statement = text("UPDATE erasures SET deleted_at = now() - make_interval(days => :days) WHERE id = :id")
            connection.execute(statement, {"id": one.id, "days": days})
    assert forget_visitors(engine) == 1
    assert forget_visitors(engine) == 0
    visitors = [visitor for (visitor,) in rows_of(engine, "SELECT visitor FROM erasures ORDER BY id")]
    assert visitors == [None, FORGOTTEN, FORGOTTEN, FORGOTTEN]
    reopen(engine, BatchIds().next() - (1 << 40))
    assert [state(engine, one).status for one in asked] == ["done", "deleting", "deleting"]
