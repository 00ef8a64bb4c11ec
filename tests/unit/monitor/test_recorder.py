"""One process's figures: counted once, bounded, and gone after a reset."""

import logging
import os
import threading

import pytest

from pulse.monitor import recorder as module
from pulse.monitor.board import Board
from pulse.monitor.meter import MAX_NAMES, Meter
from pulse.monitor.queries import MAX_CHARS, MAX_STATEMENTS, MAX_USES, SLOWEST
from pulse.monitor.recorder import QUERY, QUERY_SLOW, Recorder, route_scope
from pulse.monitor.service import ServiceStats, add_up


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def _stats(recorder: Recorder) -> ServiceStats:
    snapshot = recorder.snapshot()
    return add_up([snapshot], snapshot.published_at)


def test_a_query_is_counted_under_its_statement_and_route(recorder: Recorder) -> None:
    with route_scope("/api/v1/x", "GET"):
        recorder.record_query("/* a.b */ SELECT 1 FROM events", 20.0, 3)
    recorder.record_query("/* a.b */ SELECT 1 FROM events", 40.0, 2, failed=True)
    (found,) = _stats(recorder).statements
    assert (found.name, found.times.count, found.times.total, found.rows, found.errors) == ("a.b", 2, 60.0, 5, 1)
    assert {route: use.calls for route, use in found.routes.items()} == {"GET /api/v1/x": 1, "(background)": 1}


def test_slow_queries_are_counted_kept_and_logged(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder.slow_ms = 100
    with caplog.at_level(logging.WARNING), route_scope("/api/v1/projects/<int:project_id>/analytics", "GET"):
        recorder.record_query("/* a.slow */ SELECT *\nFROM events WHERE id = 42", 234.561, 1)
        recorder.record_query("/* a.fast */ SELECT 1", 99.9, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("🐌 Slow query detected (234.56ms)")
    for part in ("a.slow", "FROM events WHERE id = ?", "/projects/<int:project_id>/analytics", "GET", "100ms"):
        assert part in line
    assert "\n" not in line
    stats = _stats(recorder)
    assert stats.counts[QUERY_SLOW] == 1
    assert [run.name for run in stats.slowest] == ["a.slow"]


def test_a_statement_repeated_in_one_request_is_found(recorder: Recorder) -> None:
    for _ in range(2):
        with route_scope("/api/v1/list", "GET"):
            for _ in range(30):
                recorder.record_query("/* a.each */ SELECT 1", 1.0, 1)
    with route_scope("/api/v1/list", "GET"):
        for _ in range(10):
            recorder.record_query("/* a.each */ SELECT 1", 1.0, 1)
    assert _stats(recorder).statements[0].repeated == 2


def test_a_repeated_statement_is_found_with_values_written_into_it(recorder: Recorder) -> None:
    with route_scope("/api/v1/list", "GET"):
        for number in range(11):
            recorder.record_query(f"SELECT name FROM projects WHERE id = {number}", 1.0, 1)
    (found,) = _stats(recorder).statements
    assert (found.text, found.repeated) == ("SELECT name FROM projects WHERE id = ?", 1)


def test_the_slowest_runs_are_kept_slowest_first(recorder: Recorder) -> None:
    recorder.slow_ms = 1
    for duration in range(1, 201):
        recorder.record_query("/* a.b */ SELECT 1", float(duration), 1)
    kept = [run.duration_ms for run in _stats(recorder).slowest]
    assert kept == [float(n) for n in range(200, 200 - SLOWEST, -1)]


def test_ever_new_statements_and_names_take_no_more_space(recorder: Recorder) -> None:
    for number in range(3 * MAX_STATEMENTS):
        recorder.record_query(f"SELECT a{number} FROM t", 1.0, 1)
        recorder.count(f"event_{number}")
        recorder.record_request(f"/r{number}", "GET", 200, 1.0)
    stats = _stats(recorder)
    assert len(stats.statements) <= MAX_STATEMENTS + 1
    assert sum(found.times.count for found in stats.statements) == 3 * MAX_STATEMENTS
    assert len(stats.counts) <= MAX_NAMES + 1
    assert len(stats.histograms) <= MAX_NAMES + 1


def test_what_is_kept_of_texts_and_routes_is_bounded(recorder: Recorder) -> None:
    for number in range(400):
        with route_scope(f"/r{number}", "GET"):
            for statement in range(150):
                recorder.note_query(f"/* a.s{statement} */ SELECT 1", 1.0, 1)
    found = _stats(recorder).statements
    assert sum(len(one.routes) for one in found) <= MAX_USES + len(found)
    assert sum(use.calls for one in found for use in one.routes.values()) == 400 * 150
    for number in range(12):
        recorder.record_query(f"SELECT {number} /* {'x' * 100_000} */", 1.0, 1)
    assert sum(len(raw) for raw in recorder._queries._by_text) <= MAX_CHARS


def test_an_invented_method_is_no_new_name(recorder: Recorder) -> None:
    for method in ("FOO", "BAR", "BAZ"):
        recorder.record_request("/x", method, 405, 1.0)
    assert [name for name in _stats(recorder).histograms if name != QUERY] == ["request/OTHER /x"]


def test_threads_lose_nothing(recorder: Recorder) -> None:
    def work() -> None:
        for _ in range(2000):
            recorder.record_query("/* a.b */ SELECT 1", 1.0, 1)
            recorder.count("things")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = _stats(recorder)
    assert (stats.histograms[QUERY].count, stats.counts["things"]) == (8000, 8000)


def test_a_bump_of_the_board_empties_everything() -> None:
    recorder = Recorder()
    recorder.use_board(Board())
    recorder.record_query("/* a.b */ SELECT 1", 1000.0, 1)
    recorder.record_request("/x", "GET", 500, 1.0)
    recorder.board.bump()
    recorder.count("after")
    stats = _stats(recorder)
    assert (stats.statements, stats.recent, stats.slowest) == ([], [], [])
    assert (stats.counts, stats.histograms) == ({"after": 1}, {})


def test_a_forked_child_begins_at_nought() -> None:
    module.recorder.count("parents")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        found = module.recorder.snapshot().counts
        os.write(write, str(found.get("parents", 0)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"0"


def test_slices_hold_their_own_time_and_the_totals_all() -> None:
    meter = Meter(1_000_000.0)
    for second in range(0, 4000, 5):
        meter.rotate(1_000_000.0 + second)
        meter.count("things", 1)
    assert meter.totals().counts["things"] == 800
    stats = ServiceStats(at=1_003_995.0, since=1_000_000.0)
    from pulse.monitor.snapshot import merge_slices

    merge_slices(stats.slices, meter.slices(), 0)
    merge_slices(stats.minutes, meter.minutes(), 0)
    short, long = stats.window(300), stats.window(3600)
    # Two a slice of ten seconds: the rate is the same however long one looks.
    assert short.count("things") / short.covered_s == pytest.approx(0.2, rel=0.05)
    assert long.count("things") / long.covered_s == pytest.approx(0.2, rel=0.05)
    assert 290 <= short.covered_s <= 300


def test_a_window_longer_than_the_run_covers_the_run() -> None:
    meter = Meter(1_000_003.0)
    meter.count("things", 10)
    stats = ServiceStats(at=1_000_008.0, since=1_000_003.0)
    from pulse.monitor.snapshot import merge_slices

    merge_slices(stats.slices, meter.slices(), 0)
    window = stats.window(300)
    assert (window.count("things"), window.covered_s) == (10, 5.0)


def test_runs_taken_down_are_counted_when_somebody_looks(recorder: Recorder) -> None:
    with route_scope("/api/v1/x", "GET"):
        for _ in range(3 * module.MAX_PENDING + 7):
            recorder.note_query("/* a.b */ SELECT 1", 2.0, 1)
    (found,) = _stats(recorder).statements
    assert (found.times.count, found.rows) == (3 * module.MAX_PENDING + 7, 3 * module.MAX_PENDING + 7)
    assert (list(found.routes), found.repeated) == (["GET /api/v1/x"], 1)
    assert found.times.count == _stats(recorder).histograms[QUERY].count


def test_what_was_taken_down_before_a_reset_is_not_counted_after_it(recorder: Recorder) -> None:
    recorder.note_query("/* a.before */ SELECT 1", 2.0, 1)
    recorder.board.bump()
    recorder.note_query("/* a.after */ SELECT 1", 2.0, 1)
    assert [found.name for found in _stats(recorder).statements] == ["a.after"]


def test_what_was_taken_down_for_another_board_is_dropped(recorder: Recorder) -> None:
    recorder.note_query("/* a.before */ SELECT 1", 2.0, 1)
    recorder.use_board(Board())
    assert _stats(recorder).statements == []


def test_a_slow_run_is_logged_at_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        recorder.note_query("/* a.slow */ SELECT 1", recorder.slow_ms, 1)
    assert len(caplog.records) == 1


def test_threads_that_take_down_lose_nothing(recorder: Recorder) -> None:
    def work() -> None:
        for _ in range(3000):
            recorder.note_query("/* a.b */ SELECT 1", 1.0, 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _stats(recorder).histograms[QUERY].count == 12000
