"""Workers share the connections that one socket brings."""

import subprocess
import sys
import textwrap

import pytest

from pulse.web.accepting import OWN_FILES, PLACES, Tally


def run(program: str) -> None:
    """Run a program with gevent, as workers do; it asserts."""
    head = """
        from gevent import monkey; monkey.patch_all()
        import time
        import gevent
        from gevent import socket
        from gevent.pool import Pool
        from pulse.web.accepting import FairServer, Tally

        class Worker(FairServer):
            tally = Tally()

        listener = socket.create_server(("127.0.0.1", 0))
        taken = []

        def work(number):
            place = Worker.tally.enter()
            found = Worker(listener, handle=lambda sock, _: (taken.append(number), sock.recv(1)), spawn=Pool(100))
            found.place, found.max_accept = place, 1
            return found

        def connect(count):
            before = len(taken)
            opened = [socket.create_connection(listener.getsockname()) for _ in range(count)]
            while len(taken) < before + count:
                gevent.sleep(0.001)
            return opened
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_worker_with_more_connections_leaves_new_ones_to_another() -> None:
    run("""
        first = work("first")
        first.start()
        held = connect(6)
        assert taken == ["first"] * 6
        second = work("second")
        second.start()
        held += connect(4)
        assert taken[6:] == ["second"] * 4, taken
    """)


def test_what_the_others_do_not_take_it_takes_itself() -> None:
    run("""
        first, idle = work("first"), work("idle")
        first.start()
        held = connect(6)
        assert taken == ["first"] * 6
    """)


def test_connections_that_are_closed_and_workers_that_are_gone_do_not_count() -> None:
    run("""
        first, second = work("first"), work("second")
        first.start()
        for connection in connect(6):
            connection.close()
        while sum(Worker.tally.read()):
            gevent.sleep(0.001)
        held = connect(3)
        assert list(Worker.tally.read()) == [3, 0]
        second.close()
        assert list(Worker.tally.read()) == [3]
        assert Worker.tally.enter() == 1
    """)


def test_there_may_be_more_workers_than_places() -> None:
    tally = Tally()
    assert [tally.enter() for _ in range(PLACES)] == list(range(PLACES))
    assert tally.enter() is None
    tally.leave(5)
    tally.leave(None)
    assert tally.enter() == 5


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"), [(300, 300, 300 - OWN_FILES), (300, 4096, 2000), (3000, 4096, 2000), (64, 128, 1)]
)
def test_no_more_connections_than_files_may_be_open(soft: int, hard: int, allowed: int) -> None:
    run(
        f"""
        import resource
        from pulse.web.accepting import OWN_FILES, allow_connections

        resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
        assert allow_connections(2000) == {allowed}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft >= min(2000 + OWN_FILES, {hard}) and hard == {hard}
        """
    )
