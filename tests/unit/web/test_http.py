"""A body that does not arrive is refused, as late or as cut short."""

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from pulse.errors import BadRequest, RequestTimeout
from pulse.web import http


def time_out(size: int) -> bytes:
    raise TimeoutError


@pytest.mark.parametrize(
    ("read", "error"), [(time_out, RequestTimeout), (BytesIO(b"{").read, BadRequest), (BytesIO().read, BadRequest)]
)
def test_a_body_that_does_not_arrive_is_refused(read: Any, error: type[Exception]) -> None:
    environ = {"wsgi.input": SimpleNamespace(read=read), "CONTENT_LENGTH": "2"}
    with pytest.raises(error, match="did not arrive"):
        http.read_body(environ)
    assert environ[http.UNREAD] is True
