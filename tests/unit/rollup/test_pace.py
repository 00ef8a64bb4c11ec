"""A fold rests in proportion to its work, within bounds, and not at all while it is behind."""

import pytest

from pulse.rollup import pace as pacing
from pulse.rollup.pace import BEHIND_S, RESTS_S, Pace, Pacer


class Clock:
    """Stands in for the module `time`: moves on only when told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def work(clock: Clock, pace: Pace, items: int, item_s: float) -> None:
    """Go through items that take `item_s` seconds each."""
    for _ in pace.spread(range(items)):
        clock.now += item_s


def fold(clock: Clock, pacer: Pacer, events: int, lag_s: float = 0.1, event_s: float = 20e-6) -> float:
    """Fold events that take `event_s` seconds each and return how long the fold rested."""
    pace = pacer.begin(events, lag_s)
    work(clock, pace, events, event_s)
    pacer.end(pace, events)
    return pace.rested_s


def test_every_item_comes_once_and_in_order(clock: Clock) -> None:
    for rest in (0.0, 3.0):
        assert list(Pace(rest).spread(range(1000))) == list(range(1000))
        assert [item for some in Pace(rest).slices(range(1000)) for item in some] == list(range(1000))


def test_slices_are_followed_by_rests_as_well(clock: Clock) -> None:
    pace = Pace(2.0)
    for some in pace.slices(range(3000)):
        clock.now += len(some) * 5e-6
    assert pace.worked_s == pytest.approx(0.015)
    assert pace.rested_s == pytest.approx(0.024, rel=0.2)
    assert max(clock.slept) < 0.006


def test_a_stretch_is_followed_by_a_rest_in_proportion(clock: Clock) -> None:
    pace = Pace(2.0)
    work(clock, pace, 640, 0.0001)
    assert clock.slept == [pytest.approx(0.0064)] * 19
    assert pace.worked_s == pytest.approx(0.064)


def test_the_first_fold_and_one_that_is_behind_do_not_rest(clock: Clock) -> None:
    pacer = Pacer()
    assert fold(clock, pacer, 5000) == 0
    assert fold(clock, pacer, 5000, lag_s=BEHIND_S + 0.1) == 0
    assert fold(clock, pacer, 5000) > 0


def test_rests_fill_their_time_and_no_more(clock: Clock) -> None:
    pacer = Pacer()
    fold(clock, pacer, 5000)
    assert fold(clock, pacer, 5000) == pytest.approx(RESTS_S, rel=0.05)
    slow = fold(clock, pacer, 5000, event_s=200e-6)
    assert slow == pytest.approx(RESTS_S, rel=0.2), "the work took ten times as long"


def test_a_fold_much_larger_than_the_one_before_rests_less(clock: Clock) -> None:
    pacer = Pacer()
    fold(clock, pacer, 1000)
    assert fold(clock, pacer, 20_000) == pytest.approx(RESTS_S, rel=0.05)
    stretches = [rest for rest in clock.slept if rest > 0]
    assert max(stretches) < 0.01, "spread over the whole fold, not spent at its beginning"


def test_a_small_fold_is_not_late_for_its_rests(clock: Clock) -> None:
    pacer = Pacer()
    fold(clock, pacer, 100)
    assert fold(clock, pacer, 100) < 0.02
