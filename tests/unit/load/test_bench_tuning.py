"""What the tuning benchmark makes of its figures."""

import pytest

from tests.load import bench_tuning


@pytest.mark.parametrize(("at_work", "size"), [(1, 2), (3, 2), (6, 4), (8, 5)])
def test_the_pool_for_a_level_is_at_most_80_percent_used(
    monkeypatch: pytest.MonkeyPatch, at_work: int, size: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # as many web processes
    figures = {"pool of 20: connections at work, p99 @ 1,000/s": float(at_work)}
    chosen = bench_tuning.choose_pools(figures, 20, (1_000,))
    assert chosen["traffic of 1,000/s: DATABASE_POOL_MAX"] == size


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("requests of 1: processor time of 1,000 events @ 2,000/s", "ms"), ("requests of 1: p50 @ 2,000/s", "ms"),
        ("traffic of 100/s: connections at work, p99", "connections"), ("traffic of 100/s: DATABASE_POOL_MAX", ""),
        ("on disk, events: bytes a row", "B"), ("on disk, events: rows for 1,000 events", ""),
        ("pool of 2: events @ 100/s", "/s"), ("cache in Redis: hits", "%"),
    ],
)  # fmt: skip
def test_each_figure_has_its_unit(name: str, unit: str) -> None:
    assert bench_tuning.unit_of(name) == unit
