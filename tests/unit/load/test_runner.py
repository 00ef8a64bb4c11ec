"""The load tests themselves, run for a moment against a small server that counts what arrives."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from rich.console import Console

from pulse.load.history import FILE_NAME, read_runs
from pulse.load.runner import LoadTest, Settings, check_ready

BRIEF = Settings(events_per_s=400, ramp_s=0, steady_s=1, spike_s=0, readers=3, query_s=1, processes=1)


class _CountingServer(ThreadingHTTPServer):
    """Answers as the service does and keeps every event id; loses or refuses events when told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.events: list[dict[str, object]] = []
        self.refuses = False
        self.loses = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _CountingServer

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["X-API-Key"] != "some-key":
            self._answer({"success": False, "message": "unknown key"}, 401)
            return
        if self.server.refuses:
            self._answer({"success": False, "message": "no"}, 503)
            return
        events = body.get("events", [body])
        with self.server.lock:
            self.server.events += events
        ids = ["0"] * len(events)
        data = {"accepted": len(events), "eventIds": ids} if "events" in body else {"eventId": "0"}
        self._answer({"success": True, "data": data})

    def do_GET(self) -> None:
        if "/projects/" in self.path and "/projects/1/" not in self.path:
            self._answer({"success": False, "message": "another project"}, 403)
            return
        with self.server.lock:
            kept = self.server.events[self.server.loses :]
        data: object = {}
        if "/analytics" in self.path:
            data = {"overview": {"events": sum(event["event_type"] != "engagement" for event in kept)}}
        elif "/events" in self.path:
            start = int((re.search(r"cursor=(\d+)", self.path) or [0, 0])[1])
            numbers = range(start, min(start + 100, len(kept)))
            page = [{"id": str(number), "occurredAt": "2999-01-01T00:00:00Z"} for number in numbers]
            data = {"events": page, "nextCursor": str(start + 100) if start + 100 < len(kept) else None}
        elif self.path.endswith("/performance/targets"):
            self._answer({"success": False, "message": "no admin scope"}, 403)
            return
        self._answer({"success": True, "data": data}, headers={"X-Cache": "HIT"})

    def _answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content, separators=(",", ":")).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[_CountingServer]:
    with _CountingServer() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def _make(server: _CountingServer, folder: Path) -> LoadTest:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return LoadTest(url, "some-key", 1, BRIEF, folder, Console(quiet=True))


def test_a_run_writes_results_and_history(server: _CountingServer, tmp_path: Path) -> None:
    _make(server, tmp_path).run()
    ingestion = json.loads((tmp_path / "load-test-results.json").read_text())
    queries = json.loads((tmp_path / "query-load-test-results.json").read_text())
    assert ingestion["figures"]["eventsAccepted"] + queries["figures"]["eventsAccepted"] == len(server.events)
    assert ingestion["figures"]["single"]["requests"] > 0 and ingestion["figures"]["batch"]["requests"] > 0
    assert ingestion["figures"]["errors"] == queries["figures"]["errors"] == 0
    assert queries["figures"]["cacheHitPercent"] == 100
    assert queries["figures"]["historical"]["requests"] > 0
    (run,) = read_runs(tmp_path / FILE_NAME)
    assert run.settings["eventsPerSecond"] == 400
    assert len(run.calibration) == 2 and min(run.calibration) > 0
    assert "ingest.single.p99" in run.figures and "reports.historical.p99" in run.figures


def test_a_wrong_key_or_project_ends_it_before_anything_is_sent(server: _CountingServer) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    check_ready(f"{url}/", "some-key", 1)
    with pytest.raises(click.ClickException, match="API_KEY.*unknown key"):
        check_ready(url, "other-key", 1)
    with pytest.raises(click.ClickException, match="PROJECT_ID.*another project"):
        check_ready(url, "some-key", 2)
    assert server.events == []


def test_smoke_passes_when_every_event_is_kept(server: _CountingServer, tmp_path: Path) -> None:
    assert _make(server, tmp_path).run_smoke()


def test_smoke_notices_one_lost_event(
    server: _CountingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.load.smoke.FOLD_TIMEOUT_S", 0.0)
    server.loses = 1
    assert not _make(server, tmp_path).run_smoke()


def test_smoke_fails_when_events_are_refused(server: _CountingServer, tmp_path: Path) -> None:
    server.refuses = True
    assert not _make(server, tmp_path).run_smoke()
