"""Columns: made of JSON arrays as PostgreSQL gives them, and back from their packed form."""

import json

import numpy as np
import pytest

from pulse.storage import columns
from pulse.storage.columns import Column, from_arrays, pack_column, pack_figures, unpack_column, unpack_figures


@pytest.mark.parametrize("distinct", [0, 1, 255, 256, 257, 65_536, 65_537])
def test_dimensions_are_packed_without_loss(distinct: int) -> None:
    values: list[str | None] = [f"/päge/{number}" for number in range(distinct)]
    column = columns.to_column([*values, *values[:3], None])
    found = unpack_column(pack_column(column))
    assert [found.values[code] for code in found.codes.tolist()] == [*values, *values[:3], None]


def test_kinds_stay_pairs() -> None:
    kinds = [("pageview", None), ("custom", "buy"), ("pageview", None)]
    assert unpack_column(pack_column(columns.to_column(kinds))).values == kinds[:2]


def test_figures_are_packed_without_loss() -> None:
    figures = columns.Figures(*(np.array([0, number], np.int64) for number in (1, 2**20, 2**33, 300, 2**16, 255)))
    found = unpack_figures(pack_figures(figures))
    assert [part.tolist() for part in found] == [part.tolist() for part in figures]


def test_hashes_keep_their_sign() -> None:
    numbers = np.array([-(2**63), -1, 0, 2**63 - 1], np.int64)
    assert columns.unpack_numbers(columns.pack_numbers(numbers)).tolist() == numbers.tolist()


def test_events_come_visit_by_visit_with_the_entry_first() -> None:
    arrays: dict[str, str | None] = dict.fromkeys(columns.VISIT_ARRAYS, "[1, 2, 3]")
    arrays |= dict.fromkeys(columns.VISIT_DIMENSIONS, '["a", null, "a"]')
    arrays |= {
        "number": "[2, 0, 2, 0]", "is_entry": "[0, 0, 1, 0]", "path": json.dumps(["/c", "/a", "/entry", "/b"]),
        "event_type": json.dumps(["click", "pageview", "pageview", "pageview"]),
        "event_name": "[null, null, null, null]", "screen": "[null, null, null, null]",
    }  # fmt: skip
    found = from_arrays(arrays)
    path = found.dimensions["path"]
    assert [path.values[code] for code in path.codes.tolist()] == ["/a", "/b", "/entry", "/c"]
    assert (found.figures.held.tolist(), found.figures.enters.tolist()) == ([2, 0, 2], [0, 0, 1])
    assert found.dimensions["os"].values == ["a", None]


def test_nothing_is_no_columns_of_nothing() -> None:
    found = from_arrays(dict.fromkeys((*columns.VISIT_ARRAYS, *columns.EVENT_ARRAYS)))
    assert (found.visits, found.dimensions["path"]) == (0, Column([], found.dimensions["path"].codes))
    assert len(found.dimensions["path"].codes) == 0
