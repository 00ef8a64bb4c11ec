"""A request's time begins when its bytes reach this machine, not when a worker takes them up."""

import socket
import sys
import time
from collections.abc import Iterator
from time import perf_counter

import pytest

from pulse.web import arrival
from pulse.web.arrival import StampingUnreader, stamp_connections, started_at
from tests.running import wait_until

WAIT_S = 0.05


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, StampingUnreader]]:
    """A client's socket, and the reader of the server's side."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stamp_connections(listener)
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                yield client, StampingUnreader(server)
    arrival._arrived.set(None)


def stamps_arrivals(client: socket.socket, reader: StampingUnreader) -> bool:
    client.sendall(b"?")
    time.sleep(WAIT_S)
    reader.chunk()
    return started_at() < perf_counter() - WAIT_S / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what TCP delivers")
def test_the_time_in_the_socket_counts(connection: tuple[socket.socket, StampingUnreader]) -> None:
    client, reader = connection
    # The kernel begins to stamp a moment after the first socket has asked for it.
    wait_until(lambda: stamps_arrivals(client, reader))
    for body in (b"one", b"two"):
        before = perf_counter()
        client.sendall(body)
        sent = perf_counter()
        time.sleep(WAIT_S)  # what a busy worker does
        assert reader.chunk() == body
        # Two clocks are read one after the other: they differ by microseconds.
        assert before - 0.01 < started_at() < sent + 0.01 < perf_counter()


def test_where_nothing_is_stamped_it_begins_now() -> None:
    mine, other = socket.socketpair()
    with mine, other:
        other.sendall(b"x")
        assert StampingUnreader(mine).chunk() == b"x"
    before = perf_counter()
    assert before <= started_at() <= perf_counter()


@pytest.mark.parametrize("set_by_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_makes_no_long_request(
    connection: tuple[socket.socket, StampingUnreader], monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    client, reader = connection
    client.sendall(b"x")
    reader.chunk()
    monkeypatch.setattr(arrival, "time", lambda: time.time() + set_by_s)
    before = perf_counter()
    assert before <= started_at() <= perf_counter()


def test_long_bodies_are_read_as_far_as_they_are_wanted(connection: tuple[socket.socket, StampingUnreader]) -> None:
    client, reader = connection
    client.sendall(b"y" * 20_000)
    client.shutdown(socket.SHUT_WR)
    parts = list(iter(lambda: reader.chunk(20_000), b""))
    assert b"".join(parts) == b"y" * 20_000
    assert reader.chunk() == b""
