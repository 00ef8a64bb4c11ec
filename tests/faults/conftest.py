"""One service for the tests that disturb it and let it recover."""

from collections.abc import Iterator

import pytest

from tests.running import RunningService, run_service

# Every web worker ends after one to two hundred requests, as an operator may have it, whatever else is going on.
RECYCLING = "--max-requests 150 --max-requests-jitter 100"


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    """A service as `make run` starts it, whose web workers are replaced all the time."""
    with run_service(GUNICORN_CMD_ARGS=RECYCLING) as running:
        yield running
