"""A visitor who is to be forgotten: gone from events, sessions, summaries and goals, and nobody else with them."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.errors import NotFound
from pulse.reports.goals import PageGoal, create_goal
from pulse.rollup import erasure
from pulse.rollup.erasure import Erasure, get_erasure, list_erasures, request_erasure, run_erasures
from pulse.rollup.fold import fold_once
from pulse.rollup.goals import count_all
from pulse.rollup.requests import run_requests
from pulse.storage.engine import build_engine
from tests.db.rollup.conftest import commit_batch, make_event, rows_of
from tests.db.rollup.state import check, stored_sessions

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
FORGOTTEN = 3
New = Callable[..., int]


def nothing_spooled(_: int) -> bool:
    return False


def make_events(project_id: int, count: int = 150) -> list[dict[str, Any]]:
    """Visits of seven visitors over some days; every third event lies in a session that three visitors share."""
    chance = random.Random(7)
    return [
        make_event(
            project_id, NOON + timedelta(minutes=11 * n), visitor=n % 7, path=f"/{n % 5}", country=[None, "DE"][n % 2],
            event_type=chance.choice(["pageview", "pageview", "click", "engagement"]),
            **({"session_key": 1000 + n % 2, "client_session": True} if n % 3 == 0 else {}),
        )
        for n in range(count)
    ]  # fmt: skip


def others(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["visitor"] != FORGOTTEN]


def ask(engine: Engine, project_id: int, before_batch: int = 0) -> Erasure:
    with engine.begin() as connection:
        return request_erasure(connection, project_id, FORGOTTEN, before_batch)


def state(engine: Engine, asked: Erasure) -> Erasure:
    with engine.begin() as connection:
        return get_erasure(connection, asked.project_id, asked.id)


def finish(engine: Engine, asked: Erasure) -> Erasure:
    """Do what the background worker does until it is done."""
    for _ in range(3):
        run_erasures(engine, nothing_spooled)
        run_requests(engine)
        count_all(engine)
    return state(engine, asked)


def test_nobody_else_goes_with_them(engine: Engine, new_project: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "CHUNK", 4)
    project_id, other = new_project("Asia/Kolkata"), new_project()
    events, theirs = make_events(project_id), make_events(other)
    commit_batch(engine, events[:100] + theirs)
    fold_once(engine)
    commit_batch(engine, events[100:])
    asked = ask(engine, project_id)
    assert (asked.status, asked.events) == ("waiting", 0)
    assert run_erasures(engine, nothing_spooled) == 1
    assert state(engine, asked).status == "recounting"
    done = finish(engine, asked)
    fold_once(engine)
    check(engine, others(events) + theirs, {project_id: "Asia/Kolkata", other: "UTC"})
    forgotten = [event for event in events if event["visitor"] == FORGOTTEN]
    assert (done.status, done.events) == ("done", len(forgotten))
    assert done.start_date is not None and done.end_date is not None and done.start_date <= done.end_date
    assert rows_of(engine, "SELECT 1 FROM events WHERE project_id = :id AND visitor = 3", id=project_id) == []


def test_a_shared_session_is_made_anew_from_the_others(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    key = {"session_key": 77, "client_session": True}
    events = [
        make_event(project_id, NOON, visitor=FORGOTTEN, path="/login", utm_source="mail", **key),
        make_event(project_id, NOON + timedelta(minutes=1), visitor=1, path="/home", **key),
        make_event(project_id, NOON + timedelta(minutes=9), visitor=FORGOTTEN, path="/bye", **key),
    ]
    commit_batch(engine, events)
    fold_once(engine)
    finish(engine, ask(engine, project_id))
    [session] = stored_sessions(engine, [project_id])
    assert (session["visitor"], session["entry_path"], session["exit_path"]) == (1, "/home", "/home")
    assert (session["utm_source"], session["pageviews"]) == (None, 1)
    check(engine, others(events), {project_id: "UTC"})


def test_a_session_that_falls_apart_counts_on_other_days_too(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    key = {"session_key": 77, "client_session": True}
    start = NOON - timedelta(days=6)
    # Day 1 and day 3 hang together through the forgotten visitor's day 2 alone; two days on, the same once more.
    events = [
        make_event(project_id, start + timedelta(hours=hours, days=days), visitor=visitor, **key)
        for days in (0, 5)
        for hours, visitor in ((0, 1), (23, FORGOTTEN), (46, 1))
    ]
    commit_batch(engine, events)
    fold_once(engine)
    assert len(stored_sessions(engine, [project_id])) == 2
    finish(engine, ask(engine, project_id))
    assert len(stored_sessions(engine, [project_id])) == 4
    check(engine, others(events), {project_id: "UTC"})


@pytest.mark.parametrize("step", (0, 1, 2, 3, 5, 10))
def test_a_kill_between_any_two_steps_costs_nothing(
    engine: Engine, new_project: New, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(erasure, "CHUNK", 10)
    project_id = new_project()
    events = make_events(project_id)
    commit_batch(engine, events)
    fold_once(engine)
    asked = ask(engine, project_id)
    calls = 0

    def fail_at_step(name: str) -> None:
        real = getattr(erasure, name)

        def killed(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise KeyboardInterrupt
            return real(*args, **options)

        monkeypatch.setattr(erasure, name, killed)

    for name in ("read_clocks", "take_sessions", "put_sessions", "request_rebuilds"):
        fail_at_step(name)
    with pytest.raises(KeyboardInterrupt):
        run_erasures(engine, nothing_spooled)
    done = finish(engine, asked)
    assert (done.status, done.events) == ("done", len(events) - len(others(events)))
    check(engine, others(events), {project_id: "UTC"})


def test_while_others_write_and_fold(
    config: Config, engine: Engine, new_project: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "CHUNK", 3)
    project_id = new_project()
    events = make_events(project_id, 200)
    last = max(commit_batch(engine, events[n:100:10]) for n in range(10))
    asked = ask(engine, project_id, last)

    def write_and_fold() -> None:
        own = build_engine(config, str(config.database_url))
        try:
            for n in range(10):
                commit_batch(own, events[100 + n :: 10])
                fold_once(own, max_events=7)
            while fold_once(own, max_events=7).batches:
                pass
        finally:
            own.dispose()

    thread = threading.Thread(target=write_and_fold)
    thread.start()
    while thread.is_alive():
        run_erasures(engine, nothing_spooled)
        run_requests(engine)
    thread.join()
    assert finish(engine, asked).status == "done"
    check(engine, others(events[:100]) + events[100:], {project_id: "UTC"})


def test_what_waits_in_the_spool_is_deleted_and_what_comes_later_is_kept(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    events = make_events(project_id, 60)
    commit_batch(engine, events[:20])
    fold_once(engine)
    [(newest,)] = rows_of(engine, "SELECT max(id) FROM ingest_batches")
    after = newest + (1 << 20)
    asked = ask(engine, project_id, after)  # the next batch was accepted before, and waits in the spool
    assert run_erasures(engine, lambda up_to: up_to >= after) == 0
    assert state(engine, asked).status == "waiting"
    commit_batch(engine, events[20:40])
    commit_batch(engine, events[40:])
    while fold_once(engine).batches:
        pass
    finish(engine, asked)
    check(engine, others(events[:40]) + events[40:], {project_id: "UTC"})


def test_goals_are_counted_anew(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    commit_batch(engine, [make_event(project_id, NOON, visitor=visitor, path="/paid") for visitor in (1, FORGOTTEN)])
    fold_once(engine)
    with engine.begin() as connection:
        create_goal(connection, project_id, PageGoal(name="Paid", path="/paid"))
    count_all(engine)
    assert rows_of(engine, "SELECT completions FROM goal_daily") == [(2,)]
    asked = ask(engine, project_id)
    run_erasures(engine, nothing_spooled)
    run_requests(engine)
    run_erasures(engine, nothing_spooled)
    assert state(engine, asked).status == "recounting", "its goal is still counted as before"
    assert finish(engine, asked).status == "done"
    assert rows_of(engine, "SELECT completions FROM goal_daily") == [(1,)]


def test_a_day_that_can_not_be_counted_anew_is_told(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    commit_batch(engine, [make_event(project_id, NOON, visitor=FORGOTTEN)])
    fold_once(engine)
    asked = ask(engine, project_id)
    run_erasures(engine, nothing_spooled)
    with engine.begin() as connection:
        connection.execute(text("UPDATE rebuilds SET finished_at = now(), failure = 'broken'"))
    run_erasures(engine, nothing_spooled)
    failed = state(engine, asked)
    assert (failed.status, failed.failure, failed.events) == ("failed", "broken", 1)


def test_who_was_never_there_and_projects_that_are_gone(engine: Engine, new_project: New) -> None:
    project_id = new_project()
    assert finish(engine, ask(engine, project_id)).status == "done"
    with engine.begin() as connection:
        assert [found.events for found in list_erasures(connection, project_id)] == [0]
        for erasure_id in (0, 99, 2**31, -1):
            with pytest.raises(NotFound):
                get_erasure(connection, project_id, erasure_id)
        request_erasure(connection, project_id, FORGOTTEN, 0)
        connection.execute(text("DELETE FROM projects"))
    assert run_erasures(engine, nothing_spooled) == 0
