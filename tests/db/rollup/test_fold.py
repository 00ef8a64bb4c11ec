"""Each committed event is counted exactly once, whatever dies and however many fold."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from pulse.config import Config
from pulse.rollup.fold import FoldResult, fold_once
from pulse.rollup.writing import MAX_VALUES, OTHER
from pulse.storage import sketch
from pulse.storage.engine import build_engine
from tests.db.rollup.conftest import commit_batch, make_event, rows_of
from tests.db.rollup.recount import recount_live
from tests.db.rollup.state import check, stored_daily, stored_live, stored_sessions

NOW = datetime.now(UTC).replace(microsecond=0)


def at(minutes: float) -> datetime:
    """An hour ago, and some minutes later."""
    return NOW - timedelta(hours=1) + timedelta(minutes=minutes)


def test_nothing_to_fold(engine: Engine) -> None:
    assert fold_once(engine) == FoldResult(0, 0, 0.0)


def test_oldest_batches_first_up_to_a_number_of_events(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    first, second, third = (
        commit_batch(engine, [make_event(project_id, at(n)) for n in range(size)]) for size in (3, 2, 2)
    )
    with engine.begin() as connection:
        statement = text("UPDATE ingest_batches SET committed_at = now() - interval '90 s' WHERE id = :id")
        connection.execute(statement, {"id": first})
    result = fold_once(engine, max_events=5)
    assert (result.batches, result.events) == (2, 5)
    assert 90 <= result.lag_s < 180
    assert [row.id for row in rows_of(engine, "SELECT id FROM ingest_batches WHERE folded_at IS NULL")] == [third]
    assert fold_once(engine, max_events=1).events == 2, "a batch larger than the limit is folded alone"
    assert second < third


def _history(project_id: int) -> list[list[dict[str, Any]]]:
    """Two batches; the second ends, extends and joins sessions of the first, and begins new ones."""
    first = [
        make_event(project_id, at(0), visitor=1, path="/a"),
        make_event(project_id, at(45), visitor=1, path="/b"),
        make_event(project_id, at(0), visitor=2, path="/a"),
        make_event(project_id, at(10), visitor=3, event_type="engagement"),
    ]
    second = [
        make_event(project_id, at(20), visitor=1, path="/c"),
        make_event(project_id, at(10), visitor=2, event_type="engagement"),
        make_event(project_id, at(5), visitor=3, path="/a"),
        make_event(project_id, at(5), visitor=4, path="/d", event_type="click"),
    ]
    return [first, second]


def test_a_late_event_joins_two_sessions(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    batches = _history(project_id)
    for batch in batches:
        commit_batch(engine, batch)
        fold_once(engine)
    joined = stored_sessions(engine, [project_id])[0]
    assert (joined["pageviews"], joined["entry_path"], joined["exit_path"]) == (3, "/a", "/b")
    check(engine, [e for batch in batches for e in batch], {project_id: "UTC"})


def test_ids_that_clients_chose_may_hold_any_bytes(engine: Engine, new_project: Callable[..., int]) -> None:
    """Also those that part the groups of a row's attributes."""
    project_id = new_project()
    ids = [
        "00000004-fefe-fefe-8000-000000000000", "80000000-0000-0004-fefe-fefe00000004",
        "80000000-0000-0000-0000-0004fefefefe",
    ]  # fmt: skip
    events = [make_event(project_id, at(minute), id=name, path=f"/{minute}") for minute, name in enumerate(ids)]
    for one in events:
        commit_batch(engine, [one])
        fold_once(engine)
    check(engine, events, {project_id: "UTC"})


def test_a_backend_killed_at_any_statement_loses_and_doubles_nothing(
    config: Config, engine: Engine, new_project: Callable[..., int]
) -> None:
    for when in ("before", "after"):
        number = 0
        while True:
            project_id = new_project()
            first, second = _history(project_id)
            commit_batch(engine, first)
            fold_once(engine)
            commit_batch(engine, second)
            died = _fold_and_die(config, number, f"{when}_cursor_execute")
            if died:
                waiting = rows_of(engine, "SELECT count(*) FROM ingest_batches WHERE folded_at IS NULL")
                assert waiting[0][0] == 1
            fold_once(engine)
            assert fold_once(engine).batches == 0
            check(engine, first + second, {project_id: "UTC"})
            assert stored_live(engine, [project_id]) == recount_live(first + second)
            if not died:
                break
            number += 1
        assert number >= 10, "a fold has at least ten statements to die at"


def _fold_and_die(config: Config, number: int, hook: str) -> bool:
    """Fold with a backend that is terminated at the statement of that number; return whether it came so far."""
    assert config.database_url is not None
    victim, killer = build_engine(config, config.database_url), build_engine(config, config.database_url)
    left = number

    def kill(connection: Any, *_rest: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            pid = connection.connection.driver_connection.info.backend_pid
            with killer.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    event.listen(victim, hook, kill)
    try:
        fold_once(victim)
    except (DBAPIError, psycopg2.Error):
        return True
    finally:
        victim.dispose()
        killer.dispose()
    return left < 0


@pytest.mark.parametrize("point", ["take_sessions", "put_sessions", "write_summaries"])
def test_a_process_that_dies_between_steps_folds_again(
    engine: Engine, new_project: Callable[..., int], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    project_id = new_project()
    first, second = _history(project_id)
    commit_batch(engine, first)
    fold_once(engine)
    commit_batch(engine, second)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(f"pulse.rollup.fold.{point}", die)
        fold_once(engine)
    fold_once(engine)
    check(engine, first + second, {project_id: "UTC"})


def test_two_folders_at_once_count_once(config: Config, engine: Engine, new_project: Callable[..., int]) -> None:
    projects = [new_project() for _ in range(3)]
    events = []
    for n in range(40):
        batch = [make_event(projects[n % 3], at(m), visitor=n % 5, path=f"/{m % 7}") for m in range(n % 11 + 1)]
        commit_batch(engine, batch)
        events += batch
    failures: list[BaseException] = []

    def work() -> None:
        own = build_engine(config, str(config.database_url))
        try:
            while fold_once(own, max_events=10).batches:
                pass
        except BaseException as failure:
            failures.append(failure)
        finally:
            own.dispose()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    check(engine, events, dict.fromkeys(projects, "UTC"))


def test_a_second_folder_waits_for_the_first(config: Config, engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    batches = [[make_event(project_id, at(n), visitor=n)] for n in range(2)]
    for batch in batches:
        commit_batch(engine, batch)
    reached, go_on = threading.Event(), threading.Event()
    first, second = (build_engine(config, str(config.database_url)) for _ in range(2))

    def hold(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "mark_folded" in statement:
            reached.set()
            go_on.wait(30)

    event.listen(first, "before_cursor_execute", hold)
    threads = [threading.Thread(target=fold_once, args=(one, 1)) for one in (first, second)]
    threads[0].start()
    assert reached.wait(30)
    threads[1].start()
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while threads[1].is_alive() and not rows_of(engine, waiting):
        pass
    go_on.set()
    for thread, own in zip(threads, (first, second), strict=True):
        thread.join(30)
        own.dispose()
    check(engine, [e for batch in batches for e in batch], {project_id: "UTC"})


@pytest.mark.parametrize(("client_session", "gap"), [(False, timedelta(minutes=30)), (True, timedelta(hours=24))])
@pytest.mark.parametrize("longer", [timedelta(0), timedelta(microseconds=1)])
def test_silence_within_and_between_sessions(
    engine: Engine, new_project: Callable[..., int], client_session: bool, gap: timedelta, longer: timedelta
) -> None:
    project_id = new_project()
    events = [
        make_event(project_id, NOW - gap * 2 + n * (gap + longer), client_session=client_session, path=f"/{n}")
        for n in range(3)
    ]
    for one in (events[0], events[2], events[1]):
        commit_batch(engine, [one])
        fold_once(engine)
    assert len(stored_sessions(engine, [project_id])) == (3 if longer else 1)
    check(engine, events, {project_id: "UTC"})


def test_engagement_alone_is_no_session(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    commit_batch(engine, [make_event(project_id, at(0), event_type="engagement")])
    fold_once(engine)
    assert stored_daily(engine, [project_id]) == {}
    [session] = stored_sessions(engine, [project_id])
    assert (session["pageviews"], session["events"]) == (0, 0)


def test_events_of_a_deleted_project_are_passed_over(engine: Engine, new_project: Callable[..., int]) -> None:
    kept, gone = new_project(), new_project()
    batch = [make_event(kept, at(0)), make_event(gone, at(0))]
    commit_batch(engine, batch)
    commit_batch(engine, [make_event(gone, at(1))])
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM projects WHERE id = :id"), {"id": gone})
    assert fold_once(engine).batches == 2
    assert fold_once(engine).batches == 0
    check(engine, batch[:1], {kept: "UTC"})
    for table in ("sessions", "summary_daily", "summary_hourly", "summary_live"):
        assert rows_of(engine, f"SELECT FROM {table} WHERE project_id = :id", id=gone) == []


def test_an_unknown_zone_does_not_stop_the_fold(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project("Mars/Olympus")
    batch = [make_event(project_id, at(0))]
    commit_batch(engine, batch)
    fold_once(engine)
    check(engine, batch, {project_id: "UTC"})


def test_a_batch_without_events_is_marked(engine: Engine) -> None:
    commit_batch(engine, [])
    assert fold_once(engine).batches == 1
    assert fold_once(engine).batches == 0


def test_live_slots(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    recent = [
        make_event(project_id, NOW - timedelta(seconds=seconds), visitor=visitor, path=path, event_type=kind)
        for seconds, visitor, path, kind in [
            (0, 1, "/a", "pageview"), (0, 2, "/a", "pageview"), (3, 1, None, "click"), (15, 1, "/b\\", "pageview"),
            (1700, 3, "/a", "pageview"), (1, 9, "/a", "engagement"),
        ]
    ]  # fmt: skip
    old = [make_event(project_id, NOW - timedelta(hours=3))]
    for part in (recent[:2], recent[2:] + old):
        commit_batch(engine, part)
        fold_once(engine)
    assert stored_live(engine, [project_id]) == recount_live(recent)


def test_values_over_the_limit_are_counted_together(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    frequent = [make_event(project_id, at(0), visitor=n, path=f"/{n % MAX_VALUES}") for n in range(MAX_VALUES + 50)]
    commit_batch(engine, frequent)
    fold_once(engine)
    rare = [make_event(project_id, at(1), visitor=10_000 + n, path=f"/rare/{n}") for n in range(30)]
    rare += [make_event(project_id, at(1), visitor=20_000, path=OTHER)]
    commit_batch(engine, rare)
    fold_once(engine)
    # The bounces of three rare pages end: what was counted under '(other)' is taken from there.
    more = [make_event(project_id, at(2), visitor=10_000 + n, path=f"/rare/{n}") for n in range(3)]
    commit_batch(engine, more)
    fold_once(engine)
    pages = {key[3]: figures for key, figures in stored_daily(engine, [project_id]).items() if key[2] == "page"}
    assert len(pages) == MAX_VALUES + 1
    assert pages[OTHER][:5] == (34, 34, 31, 28, 3 * 60_000)
    assert pages[OTHER][5] == 31
    assert sum(figures[0] for figures in pages.values()) == MAX_VALUES + 50 + 34
    exits = {key[3]: figures for key, figures in stored_daily(engine, [project_id]).items() if key[2] == "exit_page"}
    assert sum(figures[2] for figures in exits.values()) == MAX_VALUES + 50 + 31


def test_values_too_long_for_an_index_are_cut(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    letters = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(1024))  # 3 KiB that do not compress
    commit_batch(engine, [make_event(project_id, at(n), path=letters + "x" * n) for n in range(2)])
    fold_once(engine)
    pages = [(key[3], figures[0]) for key, figures in stored_daily(engine, [project_id]).items() if key[2] == "page"]
    assert pages == [(letters[:666], 2)]
    assert stored_sessions(engine, [project_id])[0]["entry_path"] == letters


def test_many_visitors_are_estimated(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    for part in range(2):
        visitors = [n * 0x1E3779B97F4A7C15 % 2**63 for n in range(part * 2000, part * 2000 + 4000)]
        commit_batch(engine, [make_event(project_id, at(0), visitor=visitor) for visitor in visitors])
        fold_once(engine)
    [row] = rows_of(engine, "SELECT visitors FROM summary_daily WHERE dimension = 'total'")
    assert abs(sketch.estimate([row.visitors]) - 6000) < 6000 * 0.05


def test_sessions_may_begin_in_another_partition_than_they_end(
    engine: Engine, new_project: Callable[..., int]
) -> None:
    project_id = new_project()
    month = NOW.replace(day=1, hour=0, minute=0, second=0)
    batches = [
        [make_event(project_id, month - timedelta(minutes=5))],
        [make_event(project_id, month + timedelta(minutes=5))],
        [make_event(project_id, month - timedelta(minutes=20), path="/earlier")],
    ]
    for batch in batches:
        commit_batch(engine, batch)
        fold_once(engine)
    check(engine, [e for batch in batches for e in batch], {project_id: "UTC"})


def test_sessions_of_several_projects_go_on_in_one_fold(engine: Engine, new_project: Callable[..., int]) -> None:
    projects = [new_project() for _ in range(3)]
    batches = [
        [
            make_event(project_id, at(minutes), visitor=visitor, path=f"/{minutes}", utm_campaign="spring")
            for number, project_id in enumerate(projects)
            for visitor in range(1, 3 + number)
        ]
        for minutes in (0, 10, 20)
    ]
    for batch in batches:
        commit_batch(engine, batch)
        fold_once(engine)
    events = [event for batch in batches for event in batch]
    assert [session["events"] for session in stored_sessions(engine, projects)] == [3] * 9
    check(engine, events, dict.fromkeys(projects, "UTC"))


def test_a_late_event_leaves_other_sessions_where_they_are(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    commit_batch(engine, [make_event(project_id, at(0) - timedelta(days=5))])
    fold_once(engine)
    earlier = rows_of(engine, "SELECT tableoid, ctid, session_key FROM sessions")
    late = make_event(project_id, at(0) - timedelta(days=6), visitor=2)
    commit_batch(engine, [make_event(project_id, at(0)), late])
    fold_once(engine)
    now = rows_of(engine, "SELECT tableoid, ctid, session_key FROM sessions")
    assert len(now) == 3
    assert set(earlier) < set(now)


def test_other_settings_of_the_database_change_nothing(
    config: Config, engine: Engine, new_project: Callable[..., int]
) -> None:
    with engine.begin() as connection:
        for setting in ("datestyle = 'German, DMY'", "bytea_output = 'escape'", "timezone = 'Asia/Tokyo'"):
            connection.execute(text(f"ALTER ROLE CURRENT_USER IN DATABASE {engine.url.database} SET {setting}"))
    engine.dispose()
    project_id = new_project("Asia/Kolkata")
    first, second = _history(project_id)
    for batch in (first, second):
        commit_batch(engine, batch)
        fold_once(engine)
    check(engine, first + second, {project_id: "Asia/Kolkata"})


def test_ids_decide_between_events_of_one_time(engine: Engine, new_project: Callable[..., int]) -> None:
    project_id = new_project()
    ids = sorted(str(uuid.uuid4()) for _ in range(3))
    events = [make_event(project_id, at(0), id=i, path=f"/{n}") for n, i in enumerate(ids)]
    for one in (events[1], events[2], events[0]):
        commit_batch(engine, [one])
        fold_once(engine)
    [session] = stored_sessions(engine, [project_id])
    assert (session["entry_path"], session["exit_path"], session["first_event_id"]) == ("/0", "/2", ids[0])
    check(engine, events, {project_id: "UTC"})
