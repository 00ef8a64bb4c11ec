"""The spool: what is on disk after each kind of accident."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse.errors import Unavailable
from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.spool import Spool
from pulse.monitor import shared


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


def test_what_other_processes_store_counts_towards_the_limit(spool: Spool) -> None:
    other = Spool(spool.folder)
    fill(spool, 1)
    one = spool.size_bytes()
    fill(other, 3)
    assert Spool(spool.folder).held_bytes() == spool.size_bytes() == 4 * one


_HARM = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 0.999)),
    st.tuples(st.just("flip"), st.floats(0, 0.999)),
    st.tuples(st.just("overwrite"), st.binary(max_size=60)),
    st.tuples(st.just("lengthen"), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("copy"), st.none()),
    st.tuples(st.just("rename"), st.none()),
    st.tuples(st.just("unfinished"), st.none()),
)


def harm(path: Path, kind: str, value: object, seed: random.Random) -> bool:
    """Do to a file what disks and people do; return whether its batch is gone."""
    data = bytearray(path.read_bytes())
    if kind == "cut":
        data = data[: int(len(data) * float(str(value)))]
    elif kind == "flip":
        data[int(len(data) * float(str(value)))] ^= 1 << seed.randrange(8)
    elif kind == "overwrite":
        assert isinstance(value, bytes)
        data[: len(value)] = value
    elif kind == "lengthen":
        assert isinstance(value, bytes)
        data += value
    elif kind == "copy":
        path.with_name(f"{seed.randrange(10**6):020d}-copy.batch").write_bytes(data)
    elif kind == "rename":
        path.rename(path.with_name(f"{seed.randrange(10**19):020d}-renamed.batch"))
        return False
    elif kind == "unfinished":
        path.with_name(f"{seed.randrange(10**6):020d}-left.tmp").write_bytes(data[: len(data) // 2])
    is_changed = bytes(data) != path.read_bytes()
    path.write_bytes(data)
    return is_changed


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 6), st.dictionaries(st.integers(0, 5), _HARM, max_size=6), st.integers(), st.integers(0, 6))
def test_whatever_happens_to_files_only_their_own_batches_are_lost(
    count: int, harms: dict[int, tuple[str, object]], seed: int, stop_after: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        batches = fill(spool, count)
        paths = spool.pending()
        gone = {n for n, (kind, value) in harms.items() if n < count and harm(paths[n], kind, value, chance)}
        damaged_before = shared.collect().counts.get("spool_damaged_files", 0)
        stored: dict[tuple[int, str], Batch] = {}
        order: list[int] = []

        def store(batch: Batch) -> None:  # as PostgreSQL does: once for each (id, writer)
            if len(order) == stop_after and not order.count(-1):
                order.append(-1)
                raise ConnectionError  # a crash, or PostgreSQL is away again
            order.append(batch.id)
            stored.setdefault((batch.id, batch.writer), batch)

        for _ in range(2):
            try:
                spool.replay(store)
            except ConnectionError:
                continue
        kept = [batch for n, batch in enumerate(batches) if n not in gone]
        found = list(stored.values())
        if any(kind in ("copy", "rename") for kind, _ in harms.values()):  # other names, another order
            found.sort(key=lambda batch: batch.id)
        assert found == kept
        assert spool.pending() == [] and len(list(spool.folder.glob("*.bad"))) == len(gone)
        assert shared.collect().counts.get("spool_damaged_files", 0) == damaged_before + len(gone)


def test_a_file_that_cannot_be_read_is_kept_aside(spool: Spool) -> None:
    batches = fill(spool, 3)
    path = spool.pending()[1]
    path.unlink()
    path.mkdir()  # reading it fails, as that of a bad sector does
    seen: list[Batch] = []
    assert spool.replay(seen.append) == 2
    assert seen == [batches[0], batches[2]] and spool.pending() == []


def test_a_long_replay_is_done_in_turns(spool: Spool) -> None:
    batches = fill(spool, 3)
    seen: list[Batch] = []
    assert [spool.replay(seen.append, for_s=0.0) for _ in range(4)] == [1, 1, 1, 0]
    assert seen == batches
