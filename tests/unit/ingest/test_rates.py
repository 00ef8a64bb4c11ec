"""Rate limits: what a key may send, and for how long it is refused."""

from pathlib import Path

import pytest

from pulse.errors import RateLimited
from pulse.ingest import rates
from pulse.ingest.rates import BURST_S, MAX_AHEAD_S, Rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(rates.time, "time", lambda: now[0])
    return now


def count_taken(limits: Rates, key_id: int, tries: int) -> int:
    taken = 0
    for _ in range(tries):
        try:
            limits.take(key_id)
        except RateLimited:
            return taken
        taken += 1
    return taken


def test_a_burst_is_let_in_and_then_the_rate(clock: list[float]) -> None:
    limits = Rates(100)
    assert count_taken(limits, 1, 1000) == pytest.approx(100 * BURST_S, abs=2)
    clock[0] += 0.5
    assert count_taken(limits, 1, 1000) == pytest.approx(50, abs=2)


def test_the_refusal_says_when_to_come_again(clock: list[float]) -> None:
    limits = Rates(10)
    limits.take(1)
    limits.charge(1, 99)  # ten seconds' worth
    with pytest.raises(RateLimited, match="10 events a second") as refused:
        limits.take(1)
    assert refused.value.retry_after_s is not None
    clock[0] += refused.value.retry_after_s
    limits.take(1)


def test_keys_do_not_share_a_limit(clock: list[float]) -> None:
    limits = Rates(10)
    assert count_taken(limits, 1, 100) < 100
    assert count_taken(limits, 2, 5) == 5


def test_processes_share_a_limit(clock: list[float], tmp_path: Path) -> None:
    first, second = Rates(10, tmp_path / "rates"), Rates(10, tmp_path / "rates")
    assert count_taken(first, 1, 100) < 100
    assert count_taken(second, 1, 100) == 0


def test_nobody_is_shut_out_for_long(clock: list[float]) -> None:
    limits = Rates(1)
    limits.take(1)
    for _ in range(100):
        limits.charge(1, 100)
    with pytest.raises(RateLimited):
        limits.take(1)
    clock[0] += MAX_AHEAD_S
    limits.take(1)


def test_a_clock_set_back_lets_everybody_in(clock: list[float]) -> None:
    limits = Rates(10)
    assert count_taken(limits, 1, 100) < 100
    clock[0] -= 3600
    limits.take(1)


def test_no_limit_refuses_nobody(clock: list[float]) -> None:
    assert count_taken(Rates(0), 1, 10_000) == 10_000
