"""The PostgreSQL that comes along: whether it runs is read from what it leaves in its folder."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import psycopg2
import pytest

from pulse.storage import embedded
from pulse.storage.embedded import EmbeddedServer
from tests.running import find_fast_folder, wait_until


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


def test_a_killed_server_starts_again_when_the_last_of_its_processes_have_ended() -> None:
    with tempfile.TemporaryDirectory(prefix="pulse-test-", dir=find_fast_folder()) as folder:
        Path(folder).chmod(0o711)  # the server's own user must pass through
        server = embedded.locate(Path(folder) / "var")
        embedded.ensure_running(server)
        try:
            for _ in range(20):  # it has a lot to say by then
                with contextlib.suppress(psycopg2.OperationalError):
                    psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="nowhere")
            session = psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="pulse")
            busy = threading.Thread(target=_count, args=(session,))
            busy.start()
            process = psutil.Process(session.info.backend_pid)
            wait_until(lambda: process.cpu_times().user > 0.1, 10)
            os.kill(int((server.data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            wait_until(lambda: not embedded.is_running(server), 10)
            assert embedded.ensure_running(server) and embedded.is_running(server)
            busy.join()
        finally:
            embedded.stop(server)


def _count(session: "psycopg2.extensions.connection") -> None:
    """Keep a process of the server at work for a second or two; it notices that it is alone when it is done."""
    with contextlib.suppress(psycopg2.Error):
        session.cursor().execute("SELECT count(*) FROM generate_series(1, 6000000)")
