"""The spool: what is on disk after each kind of accident."""

from pathlib import Path

import pytest

from pulse.errors import Unavailable
from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def fill(spool: Spool, count: int) -> list[Batch]:
    ids = BatchIds()
    batches = [Batch(ids.next(), ids.writer, 1, f'[{{"n": {n}}}]') for n in range(count)]
    for batch in batches:
        spool.append(batch)
    return batches


def test_batches_come_back_in_order_and_once(spool: Spool) -> None:
    batches = fill(spool, 5)
    seen: list[Batch] = []
    assert Spool(spool.folder).replay(seen.append) == 5
    assert seen == batches
    assert spool.replay(seen.append) == 0 and len(seen) == 5


def test_an_empty_or_missing_spool_replays_nothing(spool: Spool) -> None:
    assert spool.replay(lambda _: None) == 0


@pytest.mark.parametrize("position", [0, 8, 20, -1])
def test_a_damaged_file_costs_that_file_only(spool: Spool, position: int) -> None:
    batches = fill(spool, 3)
    path = spool.pending()[1]
    data = bytearray(path.read_bytes())
    data[position] ^= 0x20
    path.write_bytes(data)
    seen: list[Batch] = []
    spool.replay(seen.append)
    assert seen == [batches[0], batches[2]]
    assert [p.name for p in spool.folder.glob("*.bad")] == [path.with_suffix(".bad").name]


@pytest.mark.parametrize("length", [0, 3, 9, 11, 40])
def test_a_torn_file_is_kept_aside(spool: Spool, length: int) -> None:
    fill(spool, 1)
    path = spool.pending()[0]
    path.write_bytes(path.read_bytes()[:length])
    assert spool.replay(lambda _: None) == 0
    assert len(list(spool.folder.glob("*.bad"))) == 1 and spool.pending() == []


def test_an_unfinished_write_is_never_replayed(spool: Spool) -> None:
    fill(spool, 1)
    path = spool.pending()[0]
    path.rename(path.with_suffix(".tmp"))
    assert spool.replay(lambda _: pytest.fail("replayed an unacknowledged batch")) == 0


def test_a_full_spool_refuses_and_says_when_to_come_again(spool: Spool) -> None:
    fill(spool, 1)
    spool.max_bytes = spool.size_bytes() + 10
    with pytest.raises(Unavailable) as refused:
        fill(spool, 1)
    assert refused.value.retry_after_s
    assert len(spool.pending()) == 1


def test_an_unwritable_folder_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        fill(Spool(tmp_path / "spool"), 1)


def test_a_batch_that_cannot_be_stored_stays_with_all_after_it(spool: Spool) -> None:
    batches = fill(spool, 3)
    seen: list[Batch] = []

    def store(batch: Batch) -> None:
        if batch == batches[1]:
            raise ConnectionError
        seen.append(batch)

    with pytest.raises(ConnectionError):
        spool.replay(store)
    assert seen == batches[:1] and len(spool.pending()) == 2


def test_one_process_replays_at_a_time(spool: Spool) -> None:
    fill(spool, 2)
    inner: list[int] = []
    spool.replay(lambda _: inner.append(Spool(spool.folder).replay(lambda _: None)))
    assert inner == [0, 0]
