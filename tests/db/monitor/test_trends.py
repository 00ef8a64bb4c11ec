"""How a statement fares is kept as what it did between two looks."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from pulse.errors import Invalid
from pulse.monitor import shared, trends
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import ServiceStats
from pulse.monitor.snapshot import StatementFigures

NOON = 1_773_144_000

Look = Callable[..., int]


@pytest.fixture
def look(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Look at a service in which `a.b` was run `calls` times since `since`."""
    keeper = trends.TrendKeeper()

    def at(at: int, calls: int, slow: int = 0, since: int = NOON) -> int:
        times = Histogram()
        for _ in range(calls):
            times.add(4.0)
        stats = ServiceStats(at=float(at), since=float(since))
        named = StatementFigures("a.b", "SELECT ?", "SELECT", (), slow=slow, times=times)
        stats.statements = [named, StatementFigures("SELECT ?", "SELECT ?", "SELECT", (), times=times)]
        monkeypatch.setattr(shared, "collect", lambda: stats)
        return keeper.keep(engine)

    return at


def points(engine: Engine, name: str = "a.b", chosen: str = "24h") -> list[tuple[str, int, float, int]]:
    with engine.begin() as connection:
        found = trends.read(connection, name, chosen, NOON + 900.0)
    return [(point.at[11:16], point.calls, point.mean_ms, point.slow_queries) for point in found.points]


def test_steps_hold_what_was_done_in_them(engine: Engine, look: Look) -> None:
    assert [look(NOON + 10, 100), look(NOON + 70, 110), look(NOON + 130, 115, slow=2)] == [0, 1, 1]
    assert look(NOON + 190, 115, slow=2) == 0
    look(NOON + 370, 120, slow=2)
    assert points(engine) == [("12:00", 15, 4.0, 2), ("12:05", 5, 4.0, 0)]
    assert points(engine, chosen="14d") == [("12:00", 20, 4.0, 2)]
    assert points(engine, "SELECT ?") == []


def test_after_a_reset_all_is_new(engine: Engine, look: Look) -> None:
    look(NOON + 10, 100)
    look(NOON + 70, 7, since=NOON + 50)
    assert points(engine) == [("12:00", 7, 4.0, 0)]


def test_old_steps_go_and_ranges_are_checked(engine: Engine, look: Look) -> None:
    look(NOON, 1)
    look(NOON + 60, 2)
    assert trends.prune(engine, NOON + 2 * 86400.0) == 1
    assert (points(engine), len(points(engine, chosen="14d"))) == ([], 1)
    with engine.begin() as connection, pytest.raises(Invalid) as error:
        trends.read(connection, "a.b", "1h")
    assert error.value.details[0].field == "range"
