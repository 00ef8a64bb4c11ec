"""Bodies are waited for with a limit, which ends with them."""

import socket
from collections.abc import Iterator

import pytest

from pulse.errors import BadRequest
from pulse.web import http

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def connection() -> Iterator[Ends]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def read_body(near: socket.socket) -> bytes:
    with near.makefile("rb") as reader:
        return http.read_body({"gunicorn.socket": near, "wsgi.input": reader, "CONTENT_LENGTH": "2"})


def test_the_limit_of_a_body_is_not_that_of_the_wait_for_the_next_request(connection: Ends) -> None:
    near, far = connection
    far.sendall(b"{}")
    assert read_body(near) == b"{}"
    assert near.gettimeout() is None


def test_a_body_that_does_not_arrive_is_not_waited_for(connection: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_TIMEOUT_S", 0.01)
    near, _ = connection
    with pytest.raises(BadRequest, match="did not arrive"):
        read_body(near)
    assert near.gettimeout() is None
