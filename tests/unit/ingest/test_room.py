"""The room in the spool: who may still add, whoever wrote what is there."""

from pathlib import Path

import pytest

from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.room import Room
from pulse.ingest.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 40_000)


def add(spool: Spool, sizes: dict[int, int], ids: BatchIds = BatchIds()) -> None:  # noqa: B008
    spool.append(Batch(ids.next(), ids.writer, 1, "x" * sum(sizes.values())), sizes)


def fill(spool: Spool, projects: list[int]) -> dict[int, int]:
    """Add for each project in turn as long as it may; return the bytes of each."""
    held = dict.fromkeys(projects, 0)
    while allowed := [project for project in projects if not spool.room.full_for({project: 1000})]:
        for project in allowed:
            add(spool, {project: 1000})
            held[project] += 1000
    return held


def test_what_other_processes_store_counts_towards_the_limit(spool: Spool) -> None:
    add(spool, {1: 100})
    one = spool.room.held_bytes()
    for _ in range(3):
        add(Spool(spool.folder), {1: 100})
    assert Room(spool.folder).held_bytes() == 4 * one


def test_a_flood_leaves_a_quarter_to_others_after_a_restart_too(spool: Spool) -> None:
    (held,) = fill(spool, [7]).values()
    assert 25_000 < held <= 30_000
    restarted = Spool(spool.folder, spool.room.max_bytes)
    assert restarted.room.full_for({7: 1000, 8: 1000}) == {7}
    add(restarted, {8: 1000})


def test_floods_of_several_get_the_same_and_leave_some(spool: Spool) -> None:
    held = fill(spool, [1, 2, 3])
    assert max(held.values()) - min(held.values()) <= 2000 and min(held.values()) > 8000
    assert spool.room.full_for({1: 1000, 2: 1000, 3: 1000, 4: 1000}) == {1, 2, 3}


def test_nobody_may_add_to_a_full_spool(spool: Spool) -> None:
    add(spool, {1: 1000})
    spool.room.max_bytes = Room(spool.folder).held_bytes()
    assert spool.room.full_for({1: 10, 2: 10}) == {1, 2}


def test_a_flood_among_many_projects_is_seen(spool: Spool) -> None:
    for _ in range(25):
        add(spool, {1: 1000} | dict.fromkeys(range(2, 20), 10))
    restarted = Room(spool.folder, spool.room.max_bytes)
    assert restarted.full_for({1: 1000, 2: 10, 19: 10}) == {1}


def test_names_that_tell_no_shares_count_as_nobodys(tmp_path: Path) -> None:
    for name in ("00000000000000000001-w.batch", "1-w_x.batch", "1-w_axb_3x.batch", "1-w_2x30_.batch"):
        (tmp_path / name).write_bytes(b"0123456789")
    room = Room(tmp_path, 52)
    assert room.held_bytes() == 40
    assert room.full_for({2: 6, 3: 36}) == set() and room.full_for({2: 7, 3: 37}) == {2, 3}
