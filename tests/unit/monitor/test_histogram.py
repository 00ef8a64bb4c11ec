"""Counts are exact, quantiles close, and histograms add up."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.monitor.histogram import Histogram, bucket_of, upper_edge

DURATIONS = st.lists(st.floats(min_value=0.001, max_value=1e6), min_size=1, max_size=300)


def _of(values: list[float]) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


@given(DURATIONS, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_off_by_less_than_a_bucket(values: list[float], part: float) -> None:
    import math

    exact = sorted(values)[max(math.ceil(part * len(values)) - 1, 0)]
    assert exact / 1.1 <= _of(values).quantile(part) <= exact * 1.1


@given(DURATIONS, DURATIONS)
def test_two_histograms_merged_are_the_histogram_of_all_values(left: list[float], right: list[float]) -> None:
    merged = _of(left)
    merged.merge(_of(right))
    both = _of(left + right)
    assert (merged.count, merged.max, merged.buckets) == (both.count, both.max, both.buckets)
    assert merged.total == pytest.approx(both.total)


@given(st.floats(min_value=0.001, max_value=1e12))
def test_a_value_lies_within_the_edges_of_its_bucket(value: float) -> None:
    bucket = bucket_of(value)
    assert upper_edge(bucket - 1) * 0.999999 <= value <= upper_edge(bucket) * 1.000001


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300, float("inf")])
def test_strange_values_are_counted(value: float) -> None:
    assert _of([value]).count == 1


def test_no_values_are_nought() -> None:
    assert (Histogram().quantile(0.99), Histogram().mean) == (0.0, 0.0)


def test_counts_at_powers_of_two_are_exact() -> None:
    found = _of([0.5, 1.0, 1.0001, 2.0, 2.5, 4.0])
    assert [found.count_up_to(edge) for edge in (0.5, 1, 2, 4)] == [1, 2, 4, 6]


def test_it_survives_being_written_down() -> None:
    found = _of([1.0, 30.0, 400.0])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Histogram) == found
