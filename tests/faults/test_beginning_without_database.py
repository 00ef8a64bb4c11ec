"""Parts of a service that begin anew while PostgreSQL is away: events go on being accepted, and none is lost."""

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from pulse.ingest.local_copy import LocalCopy
from pulse.storage import embedded
from tests.faults import storm
from tests.running import RunningService, find_fast_folder, wait_until

EVENT = json.dumps({"type": "pageview", "url": "https://e.com/later"}).encode()


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pulse-apart-", dir=find_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def call(url: str, body: bytes, key: str | None = None) -> tuple[int, dict[str, str]]:
    """Post it and return status and data; 0 where nobody answers."""
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=15) as answer:
            return answer.status, json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        return error.code, {"said": error.read().decode()}
    except OSError:
        return 0, {}


def test_events_are_accepted_whatever_begins_while_postgresql_is_away(place: Path) -> None:
    server = embedded.locate(place / "database")
    embedded.ensure_running(server)
    service = RunningService(place / "var", DATABASE_URL=server.url)
    copy = LocalCopy(service.data_dir, make_url(server.url))
    senders = storm.Senders(service.url)
    track = f"{service.url}/api/v1/track/event"
    accepted = set()

    def accept_others(key: str) -> None:
        """Send with a key that no worker has seen before PostgreSQL went, to whichever takes it."""
        wait_until(lambda: call(track, EVENT, key)[0] == 200, 60)
        for _ in range(10):
            status, found = call(track, EVENT, key)
            assert status == 200, (found, service.log.read_text()[-3000:])
            accepted.add(found["eventId"])

    try:
        service.start()
        senders.start()
        senders.await_progress()
        status, made = call(f"{service.url}/api/v1/projects/1/api-keys", b'{"name": "other", "scopes": ["ingest"]}')
        assert status == 201
        key = made["key"]
        wait_until(lambda: (found := copy.read()) is not None and found.find_key(key) is not None)
        assert call(track, EVENT, "test_api_key")[0] == 200

        embedded.stop(server)
        accept_others(key)
        assert call(track, EVENT, "unknown")[0] == 503, "perhaps it was made a moment ago"
        for worker in service.processes("web-worker"):
            worker.kill()
        accept_others(key)
        service.kill("web")
        accept_others(key)
        service.kill("supervisor")
        service.launch()
        service.kill("web")  # at its start
        accept_others(key)
        senders.await_progress()

        embedded.ensure_running(server)
        service.await_ready()
        senders.await_progress()
        senders.stop()
        count = storm.count(service, senders, 0)
        assert (count.lost, count.unfolded, count.summary_difference, count.doubled) == (0, 0, 0, 0)
        engine = create_engine(server.url)
        with engine.connect() as connection:
            columns = "CAST(id AS text), visitor, CAST(occurred_at AS date) AS day"
            found = connection.execute(text(f"SELECT {columns} FROM events WHERE path = '/later'")).all()
        engine.dispose()
        assert accepted <= {row.id for row in found}
        assert len({(row.visitor, row.day) for row in found}) == len({row.day for row in found})
    finally:
        senders._stop.set()
        service.stop()
        embedded.stop(server)
