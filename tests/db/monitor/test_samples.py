"""What the service keeps of its own figures: exact over any step, once each, for as long as it says."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pulse.errors import Invalid
from pulse.monitor import availability, history, recorder, samples, shared
from pulse.monitor.histogram import Histogram
from pulse.monitor.measures import NAMES, READY
from pulse.monitor.service import Process, ServiceStats
from pulse.monitor.snapshot import Slice

# 2026-03-10T12:00:00Z, the start of a step of every length.
NOON = 1_773_144_000


def a_slice(start: int, *, requests: int = 10, failed: int = 0, ms: float = 5.0, ready: int = 1) -> Slice:
    times = Histogram()
    for _ in range(requests):
        times.add(ms)
    counts = {READY: ready, "server_errors/GET /x": failed, "cache/a/hits": 3, "cache/b/misses": 1}
    return Slice(start, counts, {"request/GET /x": times} if requests else {})


def stats_of(*slices: Slice, at: float) -> ServiceStats:
    stats = ServiceStats(at=at, since=float(slices[0].starts_at if slices else at - 100))
    stats.slices = {found.starts_at: found for found in slices}
    return stats


@pytest.fixture
def figure(engine: Engine) -> Callable[[int, int, str], Any]:
    """One stored figure: of a step's length and start, by the metric's name."""

    def read(step_s: int, start: int, metric: str) -> Any:
        with engine.begin() as connection:
            rows, _ = history.read_kept(connection, range_of(step_s), start + 600)
        return rows[start][NAMES.index(metric)]

    return read


def range_of(step_s: int) -> str:
    return {10: "1h", 60: "24h", 900: "14d", 3600: "30d", 21600: "1y"}[step_s]


def store(engine: Engine, *slices: Slice) -> None:
    with engine.begin() as connection:
        samples.write(connection, [samples.reduce(found) for found in slices])


@pytest.mark.parametrize("step_s", [60, 900, 3600, 21600])
def test_longer_steps_are_exact(engine: Engine, figure: Callable[..., Any], step_s: int) -> None:
    store(engine, a_slice(NOON, requests=98, ms=1.0), a_slice(NOON + 10, requests=1, ms=1000.0, failed=1))
    store(engine, a_slice(NOON + 20, requests=1, ms=1.0))
    assert figure(step_s, NOON, "p95") == pytest.approx(1.0, rel=0.05)
    assert figure(step_s, NOON, "p99") == pytest.approx(1.0, rel=0.05)
    assert figure(step_s, NOON, "errorRate") == pytest.approx(1.0)
    assert figure(step_s, NOON, "requestsPerSecond") == pytest.approx(100 / 30)
    assert figure(step_s, NOON, "cacheHits") == pytest.approx(75.0)
    assert figure(step_s, NOON, "averageQuery") is None
    assert figure(10, NOON + 10, "p99") == pytest.approx(1000.0, rel=0.05)


def test_a_step_ends_where_the_next_begins(engine: Engine, figure: Callable[..., Any]) -> None:
    store(engine, a_slice(NOON + 50, requests=10), a_slice(NOON + 60, requests=30))
    assert figure(60, NOON, "requestsPerSecond") == pytest.approx(1.0)
    assert figure(60, NOON + 60, "requestsPerSecond") == pytest.approx(3.0)
    assert figure(900, NOON, "requestsPerSecond") == pytest.approx(2.0)


def test_each_slice_is_written_once(
    engine: Engine, figure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [a_slice(NOON + 10 * i, requests=10) for i in range(6)]
    for at in (NOON + 22, NOON + 36, NOON + 36, NOON + 70):
        monkeypatch.setattr(shared, "collect", lambda at=at: stats_of(*found, at=float(at)))
        samples.keep(engine)
    assert figure(60, NOON, "requestsPerSecond") == pytest.approx(1.0)
    with engine.begin() as connection:
        count = connection.execute(text("SELECT count(*) FROM performance_samples WHERE step_s = 10")).scalar()
    assert count == 6


def test_what_is_still_happening_is_not_written(engine: Engine) -> None:
    stats = stats_of(a_slice(NOON), a_slice(NOON + 10), at=NOON + 14.0)
    assert [found.starts_at for found in samples.list_due(stats, None)] == []
    stats.at = NOON + 25.0
    assert [found.starts_at for found in samples.list_due(stats, None)] == [NOON, NOON + 10]
    assert [found.starts_at for found in samples.list_due(stats, NOON)] == [NOON + 10]


def test_after_postgresql_was_away_memory_fills_the_gap(engine: Engine) -> None:
    stats = stats_of(a_slice(NOON), at=NOON + 3600.0)
    due = samples.list_due(stats, NOON)
    assert (len(due), due[-1].starts_at, due[0].is_empty) == (29, NOON + 3580, True)


def test_steps_are_deleted_when_their_time_is_over(engine: Engine) -> None:
    store(engine, a_slice(NOON), a_slice(NOON + 21600))
    assert samples.prune(engine, NOON + 21605.0) == 1
    with engine.begin() as connection:
        left = connection.execute(text("SELECT step_s, count(*) FROM performance_samples GROUP BY 1 ORDER BY 1")).all()
    assert [tuple(row) for row in left] == [(10, 1), (60, 2), (900, 2), (3600, 2), (21600, 2)]
    assert samples.prune(engine, NOON + 15 * 86400.0) == 5
    assert samples.prune(engine, NOON + 367 * 86400.0) == 4


def minutes(engine: Engine, *kinds: str) -> None:
    """Write whole minutes from NOON on: `good`, `failing`, `unready`; `gone` writes nothing."""
    for number, kind in enumerate(kinds):
        failed = 5 if kind == "failing" else 0
        slices = [
            a_slice(NOON + 60 * number + 10 * i, failed=failed, ready=0 if kind == "unready" else 1) for i in range(6)
        ]
        if kind != "gone":
            store(engine, *slices)


def test_availability_counts_ready_minutes_without_errors(engine: Engine) -> None:
    minutes(engine, "good", "good", "failing", "good", "unready", "gone", "gone", "good", "good", "good", "good")
    with engine.begin() as connection:
        found = availability.read(connection, NOON + 11 * 60 + 5.0)
    assert (found.day.minutes, found.day.available_minutes, found.day.status) == (10, 6, "missed")
    assert found.day.percent == 60.0
    assert found.month.minutes == 10
    assert found.month.available_minutes in (6, 7)  # by the hour: the first, broken minute may be in it


def test_a_few_minutes_are_counted_and_not_judged(engine: Engine) -> None:
    minutes(engine, "good", "failing", "good", "good")
    with engine.begin() as connection:
        found = availability.read(connection, NOON + 4 * 60 + 5.0)
    assert (found.day.minutes, found.day.available_minutes, found.day.status) == (3, 2, "noData")


def test_time_in_which_nobody_could_write_is_not_available(engine: Engine) -> None:
    minutes(engine, *["good"] * 11)
    with engine.begin() as connection:
        assert availability.read(connection, NOON + 660.0).day.percent == 100.0
        found = availability.read(connection, NOON + 660.0 + 1200.0)
    assert (found.day.minutes, found.day.available_minutes) == (28, 10)


def test_a_start_just_before_the_hour_is_not_an_hour_away(engine: Engine) -> None:
    for number in range(59, 63):
        store(engine, *[a_slice(NOON + 60 * number + 10 * i) for i in range(6)])
    with engine.begin() as connection:
        found = availability.read(connection, NOON + 63 * 60 + 5.0)
    assert [(share.minutes, share.available_minutes) for share in (found.day, found.month)] == [(3, 3), (3, 3)]


def test_before_the_first_minute_nothing_is_known(engine: Engine) -> None:
    with engine.begin() as connection:
        found = availability.read(connection, float(NOON))
    assert (found.day.percent, found.day.status, found.month.status) == (None, "noData", "noData")


@pytest.fixture
def ready_count() -> Iterator[Callable[[], int]]:
    yield lambda: recorder.recorder.snapshot().counts.get(READY, 0)


def test_ready_needs_a_living_web_process(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, ready_count: Callable[[], int]
) -> None:
    stats = stats_of(at=NOON + 5.0)
    monkeypatch.setattr(shared, "collect", lambda: stats)
    monkeypatch.setattr(samples, "time", lambda: NOON + 5.0)
    before = ready_count()
    seen_at = {"worker": NOON + 4.0, "web": NOON - 60.0}
    stats.processes = [Process(1, role, 0.0, at, {}, {}, {}) for role, at in seen_at.items()]
    samples.keep(engine)
    assert ready_count() == before
    stats.processes[1].published_at = NOON + 1.0
    samples.keep(engine)
    assert ready_count() == before + 1


def test_history_joins_what_is_kept_and_what_is_in_memory(engine: Engine) -> None:
    store(engine, *(a_slice(NOON + 10 * i) for i in range(6)))
    with engine.begin() as connection:
        history.note_start(connection, NOON + 7.0, "web1", "1.2.3", "abc")
        history.note_start(connection, NOON + 7.0, "web1", "1.2.3", "abc")
        rows, starts = history.read_kept(connection, "1h", NOON + 70)
    assert [(mark.node, mark.version, mark.commit) for mark in starts] == [("web1", "1.2.3", "abc")]
    stats = stats_of(a_slice(NOON + 60, requests=50), at=NOON + 75.0)
    wish = history.read_wish("requestsPerSecond,p99,requestsPerSecond", "1h")
    found = history.series(stats, wish, rows, starts, None)
    assert [series.metric for series in found.series] == ["requestsPerSecond", "p99"]
    assert (len(found.series[0].values), found.step_seconds, found.points) == (360, 10, None)
    assert found.series[0].values[-9:] == [None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 0.0]
    assert found.start_at == "2026-03-10T11:01:20.000+00:00"


def test_rows_of_an_older_release_lack_new_metrics(engine: Engine) -> None:
    rows: history.Rows = {NOON: [4.0]}
    found = history.series(
        stats_of(at=NOON + 75.0), history.read_wish("requestsPerSecond,poolPeak", "24h"), rows, [], None
    )
    assert [series.values[-2] for series in found.series] == [4.0, None]


@pytest.mark.parametrize(
    ("metric", "chosen", "field"), [("", "1h", "metric"), ("p50,x", "1h", "metric"), ("p50", "2h", "range")]
)
def test_history_names_what_is_wrong(metric: str, chosen: str, field: str) -> None:
    with pytest.raises(Invalid) as error:
        history.read_wish(metric, chosen)
    assert error.value.details[0].field == field
