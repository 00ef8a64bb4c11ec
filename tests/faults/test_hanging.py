"""A PostgreSQL that is there and does not answer: events go to the spool within seconds, and are stored once."""

import contextlib
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psutil
import psycopg2
import pytest

from tests.running import RunningService, wait_until

PATIENCE_S = 15  # a client's; the service needs 4 s, and twice that when it has to ask for the key first


def send(service: RunningService, event_id: str, key: str = "test_api_key") -> tuple[int, dict[str, str]]:
    """Send an event on a connection of its own, and return the answer's status and headers."""
    body = json.dumps({"type": "pageview", "url": "https://e.com/stuck", "event_id": event_id}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{service.url}/api/v1/track/event", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return int(answer.status), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def send_twice_at_once(service: RunningService, ids: list[str]) -> list[int]:
    """Send events, each twice at once, and return the statuses."""
    with ThreadPoolExecutor(2 * len(ids)) as pool:
        return list(pool.map(lambda event_id: send(service, event_id)[0], ids * 2))


def new_ids(count: int) -> list[str]:
    """Choose ids as clients do."""
    return [str(uuid4()) for _ in range(count)]


def connect(service: RunningService) -> "psycopg2.extensions.connection":
    """Open a session beside the service's."""
    return psycopg2.connect(host=str(service.server.socket_dir), user="pulse", dbname="pulse")


def await_stored(service: RunningService, ids: list[str]) -> list[str]:
    """Return the ids in the order of their batches, each as often as it is stored, once the spool is empty."""
    wait_until(lambda: not list((service.data_dir / "spool").glob("*.batch")), 60)
    with contextlib.closing(connect(service)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id::text FROM events WHERE id = ANY (%s::uuid[]) ORDER BY batch_id", (ids,))
        return [row[0] for row in cursor.fetchall()]


@contextlib.contextmanager
def frozen(service: RunningService) -> Iterator[None]:
    """Stop every process of PostgreSQL as SIGSTOP does: connections stay, new ones are taken, nothing is answered."""
    (postmaster,) = service.processes("postgres")
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_commit_that_succeeds_after_its_time_out_counts_once(service: RunningService) -> None:
    ids = new_ids(24)
    assert set(send_twice_at_once(service, ids[:8])) == {200}
    with frozen(service), ThreadPoolExecutor(1) as pool:
        unknown = pool.submit(send, service, str(uuid4()), "a key that nobody asked for before")
        # The first groups are with PostgreSQL already, which stores them later; all are in the spool. A worker that
        # started a moment ago may not know the key yet.
        statuses = send_twice_at_once(service, ids[8:16]) + send_twice_at_once(service, ids[16:])
        assert 200 in statuses and set(statuses) <= {200, 503}
        status, headers = unknown.result()
        assert status == 503 and headers["Retry-After"]
    assert set(send_twice_at_once(service, ids)) == {200}
    assert sorted(await_stored(service, ids)) == sorted(ids)
    assert "PostgreSQL gave no sign" in service.log.read_text()


def test_events_wait_in_order_while_their_table_is_locked(service: RunningService) -> None:
    with contextlib.closing(connect(service)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        ids = new_ids(11)
        assert send_twice_at_once(service, ids[:1]) == [200, 200]
        assert [send(service, event_id)[0] for event_id in ids[1:]] == [200] * 10
        assert len(list((service.data_dir / "spool").glob("*.batch"))) >= 10
        connection.rollback()
    assert await_stored(service, ids) == ids
