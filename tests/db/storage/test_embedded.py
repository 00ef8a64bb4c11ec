"""The PostgreSQL that comes along: whether it runs is read from what it leaves in its folder."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pulse.storage import embedded
from pulse.storage.embedded import EmbeddedServer


def test_a_server_runs_until_it_is_stopped(server: EmbeddedServer) -> None:
    assert embedded.is_running(server) and not embedded.ensure_running(server)


@pytest.fixture
def elsewhere(server: EmbeddedServer, tmp_path: Path) -> EmbeddedServer:
    """A server of another folder, where none was ever started."""
    return dataclasses.replace(server, data_dir=tmp_path)


def test_a_folder_that_no_server_used_has_none(elsewhere: EmbeddedServer) -> None:
    assert not embedded.is_running(elsewhere)


@pytest.mark.parametrize("left", ["", "torn", "999999999\n/data\n", "{ours}\n/data\n"])
def test_what_a_killed_server_leaves_is_no_server(elsewhere: EmbeddedServer, left: str) -> None:
    # The last one: its number is another program's now.
    (elsewhere.data_dir / "postmaster.pid").write_text(left.format(ours=os.getpid()))
    assert not embedded.is_running(elsewhere)


def test_a_killed_server_that_nobody_has_waited_for_does_not_run(elsewhere: EmbeddedServer, tmp_path: Path) -> None:
    named = tmp_path / "postgres"
    named.symlink_to(sys.executable)
    child = subprocess.Popen([named, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "postmaster.pid").write_text(f"{child.pid}\n")
        assert embedded.is_running(elsewhere)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not embedded.is_running(elsewhere)
    finally:
        child.communicate()
