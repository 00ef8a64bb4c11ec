"""Background work gives way to requests, also where the system weighs sessions against each other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pulse.storage import scheduling
from pulse.storage.scheduling import NICENESS, Standing


@pytest.fixture(autouse=True)
def autogroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files like those of Linux, which has them only where it is told to group processes by session."""
    monkeypatch.setattr(scheduling, "_AUTOGROUP", str(tmp_path / "{}"))
    return tmp_path


@contextmanager
def process(has_session: bool) -> Iterator[int]:
    started = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=has_session, text=True
    )
    try:
        yield started.pid
    finally:
        started.communicate("\n")


@pytest.fixture
def leader(autogroups: Path) -> Iterator[int]:
    with process(has_session=True) as process_id:
        (autogroups / str(process_id)).write_text("/autogroup-12 nice 0\n")
        yield process_id


def niceness_of_session(folder: Path, process_id: int) -> str:
    return (folder / str(process_id)).read_text().split()[-1]


def test_a_process_and_its_session_give_way(autogroups: Path, leader: int) -> None:
    Standing().add(leader)
    assert os.getpriority(os.PRIO_PROCESS, leader) == NICENESS
    assert niceness_of_session(autogroups, leader) == str(NICENESS)


def test_work_that_is_behind_takes_its_share_until_it_has_caught_up(autogroups: Path, leader: int) -> None:
    standing = Standing()
    standing.add(leader)
    standing.give_way(False)
    assert niceness_of_session(autogroups, leader) == "0"
    standing.give_way(True)
    assert niceness_of_session(autogroups, leader) == str(NICENESS)


def test_a_process_that_has_ended_is_forgotten(autogroups: Path, leader: int) -> None:
    standing = Standing()
    standing.add(leader)
    standing.remove(leader)
    standing.remove(leader)
    standing.give_way(False)
    assert niceness_of_session(autogroups, leader) == str(NICENESS)


def test_a_session_shared_with_others_stays_as_it_is(autogroups: Path) -> None:
    with process(has_session=False) as process_id:
        file = autogroups / str(process_id)
        file.write_text("/autogroup-12 nice 0\n")
        Standing().add(process_id)
        assert os.getpriority(os.PRIO_PROCESS, process_id) == NICENESS
        assert file.read_text() == "/autogroup-12 nice 0\n"


def test_nothing_is_wrong_where_sessions_are_not_weighed_or_a_process_is_gone() -> None:
    with process(has_session=True) as process_id:
        standing = Standing()
        standing.add(process_id)
    standing.give_way(False)
