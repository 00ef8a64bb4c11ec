"""Several real processes are one service: added up, reset together, and not forgotten when one dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pulse.config import Config
from pulse.monitor import files, shared
from pulse.monitor.board import Board
from pulse.monitor.files import OwnFile, folder_of
from pulse.monitor.recorder import Recorder, recorder
from pulse.monitor.service import ServiceStats
from pulse.storage.pool import PoolStatus

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from pulse.config import Config
from pulse.monitor import recorder, shared
from pulse.storage.pool import PoolStatus
shared.register_pool("primary", lambda: PoolStatus(total=4, idle=3, in_use=1, waiting=0, max=20, min=2, timeouts=0))
shared.start_publishing(replace(Config(), data_dir=Path(sys.argv[1])), role="web")
print("ready", flush=True)
for line in sys.stdin:
    word, number = line.split()
    if word == "record":
        for _ in range(int(number)):
            recorder.recorder.record_query("/* a.b */ SELECT 1", 5.0, 1)
            recorder.record_request("/x", "GET", 200, 5.0)
    elif word == "gauge":
        recorder.gauge("queue", float(number))
    elif word == "count":
        print(sum(found.times.count for found in shared.collect().statements), flush=True)
        continue
    elif word == "reset":
        shared.reset()
    print("done", flush=True)
"""


class Child:
    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, word: str, number: int = 0) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word} {number}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(10)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    shared.clear(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def children(data_dir: Path) -> Iterator[list[Child]]:
    found = [Child(data_dir), Child(data_dir)]
    yield found
    for child in found:
        child.end()


def _read(data_dir: Path) -> ServiceStats:
    folder = folder_of(data_dir)
    return files.read_service(folder, files.current_generation(folder))


def _calls(stats: ServiceStats) -> int:
    return sum(found.times.count for found in stats.statements)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true within 10 s"
        time.sleep(0.02)


def test_two_processes_add_up(children: list[Child], data_dir: Path) -> None:
    children[0].ask("record", 30)
    children[1].ask("record", 12)
    _wait(lambda: _calls(_read(data_dir)) == 42)
    stats = _read(data_dir)
    assert stats.histograms["request/GET /x"].count == 42
    assert len(stats.processes) == 2
    assert stats.pools() == {"total": 8, "idle": 6, "in_use": 2, "waiting": 0, "max": 40, "min": 4, "timeouts": 0}
    # Whichever is asked, the answer is the same.
    _wait(lambda: children[0].ask("count") == children[1].ask("count") == "42")


def test_a_reset_by_one_reaches_the_other_at_once(children: list[Child], data_dir: Path) -> None:
    children[0].ask("record", 30)
    children[1].ask("record", 12)
    _wait(lambda: _calls(_read(data_dir)) == 42)
    children[0].ask("reset")
    assert children[1].ask("count") == "0"
    assert _calls(_read(data_dir)) == 0
    children[1].ask("record", 3)
    _wait(lambda: _calls(_read(data_dir)) == 3)


def test_a_killed_process_keeps_its_counts_and_loses_its_connections(children: list[Child], data_dir: Path) -> None:
    children[0].ask("gauge", 7)
    children[0].ask("record", 30)
    children[1].ask("record", 12)
    _wait(lambda: _calls(_read(data_dir)) == 42)
    children[0].end()
    stats = _read(data_dir)
    assert (_calls(stats), len(stats.processes), stats.pools()["total"], stats.gauges()) == (42, 1, 4, {})
    assert stats.window(300).histograms["request/GET /x"].count == 42
    assert len(list(folder_of(data_dir).glob("*.stats"))) == 2  # the living one and the departed
    children[1].end()
    assert _calls(_read(data_dir)) == 42
    assert [path.name for path in folder_of(data_dir).glob("*.stats")] == ["departed.stats"]
    Board(folder_of(data_dir)).bump()
    assert _calls(_read(data_dir)) == 0


def test_a_process_that_ends_in_order_publishes_its_last_figures(children: list[Child], data_dir: Path) -> None:
    children[0].ask("record", 9)
    stdin = children[0].process.stdin
    assert stdin is not None
    stdin.close()
    children[0].process.wait(10)
    assert _calls(_read(data_dir)) == 9


def test_a_new_start_forgets_the_last_run(children: list[Child], data_dir: Path) -> None:
    children[0].ask("record", 30)
    _wait(lambda: _calls(_read(data_dir)) == 30)
    shared.clear(data_dir)
    assert _calls(_read(data_dir)) == 0
    assert children[0].ask("count") == "0"


def test_a_count_folded_twice_is_counted_once(data_dir: Path) -> None:
    folder = folder_of(data_dir)
    mine = Recorder()
    mine.use_board(Board(folder))
    mine.count("things", 5)
    own = OwnFile(folder)
    own.write(mine.snapshot())
    data = (folder / f"{own.name}.stats").read_bytes()
    own.close()
    assert _read(data_dir).counts == {"things": 5}
    # As if the process that folded had been killed before it could remove the file.
    (folder / f"{own.name}.stats").write_bytes(data)
    assert _read(data_dir).counts == {"things": 5}


@pytest.mark.parametrize("content", [b"", b"\x81", b"not a snapshot", os.urandom(300)])
def test_damaged_files_are_ignored(data_dir: Path, content: bytes) -> None:
    folder = folder_of(data_dir)
    mine = Recorder()
    mine.use_board(Board(folder))
    mine.count("things", 5)
    own = OwnFile(folder)
    own.write(mine.snapshot())
    (folder / "departed.stats").write_bytes(content)
    (folder / "99-1.stats").write_bytes(content)
    assert _read(data_dir).counts == {"things": 5}
    own.close()


def test_cache_counters_and_gauges_are_asked_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"analytics": {"hits": 100, "misses": 10, "stale": 0, "failures": 0}}
    monkeypatch.setattr(shared, "_publisher", None)
    monkeypatch.setattr(shared, "_caches", [])
    monkeypatch.setattr(shared, "_gauge_sources", [])
    monkeypatch.setattr(shared, "_pools", {})
    shared.register_cache(lambda: rows)
    shared.register_gauges(lambda: {"queue": 3.0})
    gave_up = [5]
    shared.register_pool("primary", lambda: PoolStatus(2, 1, 1, waiting=1, max=2, min=1, timeouts=gave_up[0]))
    publisher = shared.start_publishing(replace(Config(), data_dir=data_dir))
    rows["analytics"] = {"hits": 107, "misses": 13, "stale": 0, "failures": 0}
    gave_up[0] = 9
    stats = shared.collect()
    assert (stats.counts[shared.POOL_TIMEOUTS], stats.pools()["timeouts"]) == (4, 4)
    assert (stats.counts["cache/analytics/hits"], stats.counts["cache/analytics/misses"]) == (7, 3)
    assert stats.gauges()["queue"] == 3.0
    shared.reset()
    rows["analytics"]["hits"] = 110
    after = shared.collect()
    assert "cache/analytics/hits" not in after.counts  # happened before anybody looked again
    assert (after.counts.get(shared.POOL_TIMEOUTS, 0), after.pools()["timeouts"]) == (0, 0)
    rows["analytics"]["hits"] = 2  # the cache began again by itself
    assert shared.collect().counts["cache/analytics/hits"] == 2
    publisher.sample()
    assert shared.collect().window(300).histogram(shared.POOL_USED).mean == pytest.approx(50.0)
    publisher.stop()
    recorder.use_board(Board())
