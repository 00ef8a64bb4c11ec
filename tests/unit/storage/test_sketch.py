"""Distinct counts survive being kept, merged and added to."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.storage import sketch

visitors = st.sets(st.integers(-(2**63), 2**63 - 1), max_size=150)


@given(visitors, visitors, st.sampled_from([sketch.DIMENSION_LG_K, sketch.HEADLINE_LG_K]))
def test_few_visitors_are_counted_exactly(first: set[int], second: set[int], lg_k: int) -> None:
    kept = sketch.add_visitors(sketch.EMPTY, first, lg_k)
    other = sketch.add_visitors(sketch.EMPTY, second, sketch.DIMENSION_LG_K)
    assert sketch.estimate([kept]) == len(first)
    assert sketch.estimate([kept, other]) == len(first | second)
    assert sketch.estimate([sketch.merge_bytes([kept, other]), other]) == len(first | second)
    assert sketch.estimate([sketch.add_visitors(kept, second, lg_k)]) == len(first | second)


def test_nobody() -> None:
    assert sketch.add_visitors(sketch.EMPTY, [], 12) == sketch.EMPTY
    assert sketch.merge_bytes([]) == sketch.merge_bytes([sketch.EMPTY]) == sketch.EMPTY
    assert sketch.estimate([]) == sketch.estimate([sketch.EMPTY, sketch.EMPTY]) == 0


@pytest.mark.parametrize(("lg_k", "error"), [(sketch.HEADLINE_LG_K, 0.05), (sketch.DIMENSION_LG_K, 0.08)])
@pytest.mark.parametrize("count", [1_000, 50_000])
def test_many_visitors_within_three_standard_errors(lg_k: int, error: float, count: int) -> None:
    numbers = random.Random(7)
    everyone = [numbers.getrandbits(63) for _ in range(count)]
    parts = [sketch.add_visitors(sketch.EMPTY, everyone[at::5], lg_k) for at in range(5)]
    again = sketch.add_visitors(sketch.EMPTY, everyone[: count // 2], lg_k)
    assert sketch.estimate([*parts, again]) == pytest.approx(count, rel=error)
    whole = sketch.EMPTY
    for at in range(0, count, 100):
        whole = sketch.add_visitors(whole, everyone[at : at + 100], lg_k)
    assert sketch.estimate([whole]) == pytest.approx(count, rel=error)
    assert len(whole) < 2300


@pytest.mark.parametrize(("lg_k", "error"), [(sketch.HEADLINE_LG_K, 0.02), (sketch.DIMENSION_LG_K, 0.04)])
@pytest.mark.parametrize("count", [2_000, 10_000])
def test_the_standard_error_over_many_sets(lg_k: int, error: float, count: int) -> None:
    numbers = random.Random(11)
    faults = []
    for _ in range(40):
        everyone = [numbers.getrandbits(63) for _ in range(count)]
        # A month of days, as reports merge them.
        days = [sketch.add_visitors(sketch.EMPTY, everyone[at::30], lg_k) for at in range(30)]
        faults.append(sketch.estimate(days) / count - 1)
    assert math.sqrt(statistics.fmean(fault**2 for fault in faults)) < error
    assert abs(statistics.fmean(faults)) < error / 2


def test_what_the_driver_returns_is_taken() -> None:
    kept = memoryview(sketch.add_visitors(sketch.EMPTY, [1, 2], 11))
    assert sketch.estimate([kept, kept]) == sketch.estimate([kept]) == 2  # type: ignore[list-item]


def test_one_visitor_at_a_time() -> None:
    one = sketch.new(11)
    for visitor in (5, 5, -5):
        sketch.update(one, visitor)
    assert sketch.estimate([sketch.dump(one)]) == 2
    assert sketch.dump(sketch.load(sketch.dump(one), 11)) == sketch.dump(one)
