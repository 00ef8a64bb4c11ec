"""The spool: what is on disk after each kind of accident."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

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
        spool.append(batch, {1: len(batch.rows)})
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
    spool.room.max_bytes = Spool(spool.folder).room.held_bytes() + 10
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


@settings(max_examples=120)
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


def run_until_killed(work: Callable[[], object], after_lines: int) -> bool:
    """Do the work in a process that is killed before the so manieth line of the spool's; return whether it was done."""
    child = os.fork()
    if child == 0:
        left = after_lines

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith("ingest/spool.py"):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def test_killed_between_any_two_lines_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    ids = BatchIds()
    for killed_after in range(1000):
        spool = Spool(tmp_path / str(killed_after) / "spool")
        kept = fill(spool, 1) if killed_after % 2 else []
        batch = Batch(ids.next(), ids.writer, 1, "[{}]")
        table = spool.folder.parent / "table"
        table.parent.mkdir(exist_ok=True)

        def store(stored: Batch, table: Path = table) -> None:  # as PostgreSQL does: once for each (id, writer)
            (table.with_name(f"{stored.id}-{stored.writer}")).touch()

        acknowledged = run_until_killed(lambda: spool.append(batch, {1: 4}), killed_after)  # noqa: B023
        done = run_until_killed(lambda: spool.replay(store), killed_after)  # noqa: B023
        spool.replay(store)
        found = {path.name for path in table.parent.iterdir() if path.is_file()}
        expected = {f"{each.id}-{each.writer}" for each in [*kept, *([batch] if acknowledged else [])]}
        assert expected <= found <= expected | {f"{batch.id}-{batch.writer}"}
        assert not list(spool.folder.glob("*.ba*"))
        if acknowledged and done:
            break
    assert 30 < killed_after < 999


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["mkdir", "open", "write", "fsync", "rename", "folder"])
def test_a_full_disk_is_said_at_each_step_and_leaves_nothing(
    spool: Spool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step != "mkdir":
        fill(spool, 1)
    before = spool.pending()
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(Path, "open", lambda *_: open("/dev/full", "wb"))  # noqa: SIM115, PTH123
        elif step == "fsync":
            patch.setattr(os, "fsync", full)
        elif step == "folder":
            patch.setattr("pulse.ingest.spool._sync_folder", full)
        else:
            patch.setattr(Path, step, full)
        with pytest.raises(Unavailable, match="can't be written") as refused:
            fill(spool, 1)
    assert refused.value.retry_after_s
    assert [path.name for path in spool.folder.glob("*")] == [path.name for path in before]
    assert spool.room.held_bytes() == sum(path.stat().st_size for path in before)
    fill(spool, 1)
    assert len(spool.pending()) == len(before) + 1


def test_a_file_that_another_node_replayed_meanwhile_is_no_damage(spool: Spool) -> None:
    batches = fill(spool, 3)
    first, second, _ = spool.pending()
    seen: list[Batch] = []

    def store(batch: Batch) -> None:
        seen.append(batch)
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)

    assert spool.replay(store) == 2
    assert seen == [batches[0], batches[2]] and [path.name for path in spool.folder.iterdir()] == ["replay.lock"]


def test_a_shortage_of_the_process_sets_no_file_aside(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = fill(spool, 1)
    seen: list[Batch] = []
    with monkeypatch.context() as patch:

        def read(_: Path) -> bytes:
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(Path, "read_bytes", read)
        with pytest.raises(OSError, match="Too many open files"):
            spool.replay(seen.append)
    assert spool.replay(seen.append) == 1 and seen == batches


def test_a_file_of_somebody_else_waits_and_those_behind_it_do_not(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = fill(spool, 2)
    first = spool.pending()[0]
    seen: list[Batch] = []
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == first:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        assert spool.replay(seen.append) == 1
    assert seen == batches[1:] and spool.pending() == [first]
    assert spool.replay(seen.append) == 1 and seen == batches[::-1]


def test_leftovers_of_a_crash_are_removed_when_they_are_old(spool: Spool) -> None:
    fill(spool, 1)
    for name, age_s in (("old", 4000), ("new", 10)):
        path = spool.folder / f"{name}.tmp"
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    spool.replay(lambda _: None)
    assert [path.name for path in spool.folder.glob("*.tmp")] == ["new.tmp"]


def test_ids_go_on_from_what_waits_when_the_clock_is_set_back(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fill(spool, 2)
    an_hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: an_hour_ago)
    ids = BatchIds(spool.newest())
    after = Batch(ids.next(), ids.writer, 1, "[]")
    spool.append(after, {1: 2})
    seen: list[Batch] = []
    spool.replay(seen.append)
    assert seen == [*before, after]


# The disk's thread waits for the main one: if the fsync were in the event loop, both would wait for ever.
_SLOW_DISK = """
from gevent import monkey; monkey.patch_all()
import sys, os, gevent
from pathlib import Path
from pulse.ingest.batch import Batch, BatchIds
from pulse.ingest.spool import Spool
go_on = monkey.get_original("threading", "Event")()
fsync, at_work = os.fsync, []
def slow(descriptor):
    at_work.append(descriptor)
    assert go_on.wait(20)
    fsync(descriptor)
os.fsync = slow
spool, ids = Spool(Path(sys.argv[1])), BatchIds()
writing = gevent.spawn(spool.append, Batch(ids.next(), ids.writer, 1, "[]"), {1: 2})
with gevent.Timeout(10):
    while not at_work:
        gevent.sleep(0.001)
print("others go on", writing.ready(), len(spool.pending()))
go_on.set()
writing.get()
print("on the disk", len(at_work), len(spool.pending()))
"""


def test_others_go_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SLOW_DISK, str(tmp_path)], timeout=60, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["others go on False 0", "on the disk 2 1"]
