"""The load tests themselves, run for a moment against a small server that counts what arrives."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import psutil
import pytest
from rich.console import Console

from pulse.load.client import Client
from pulse.load.history import FILE_NAME, read_runs
from pulse.load.machine import ROOT
from pulse.load.runner import LoadTest, Settings, _pick_comparable, check_folder, check_ready
from pulse.load.service import find_free_port
from pulse.load.smoke import Counter, Standing
from pulse.load.summary import INGESTION, judge, summarize

BRIEF = Settings(events_per_s=400, ramp_s=0, steady_s=1, spike_s=0, readers=3, query_s=1, processes=1)


class _CountingServer(ThreadingHTTPServer):
    """Answers as the service does and keeps every event id; loses or refuses events when told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.events: list[dict[str, object]] = []
        self.refuses = False
        self.is_strange = False
        self.loses = 0
        self.repeats = 0


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
        if self.server.is_strange:
            self._answer("<html>Who are you?</html>")
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
            page = [
                {"id": str(max(number, self.server.repeats)), "occurredAt": "2999-01-01T00:00:00Z"}
                for number in numbers
            ]
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


def test_rows_that_repeat_an_id_are_seen(server: _CountingServer) -> None:
    server.events = [{}] * 250
    server.repeats = 2
    counter = Counter(Client(f"http://127.0.0.1:{server.server_address[1]}", "some-key"), 1)
    assert counter.count_rows(Standing(0, datetime.now(UTC))) == (250, 2)


def test_smoke_fails_when_events_are_refused(server: _CountingServer, tmp_path: Path) -> None:
    server.refuses = True
    assert not _make(server, tmp_path).run_smoke()


def test_an_answer_that_is_not_the_services_is_an_error(server: _CountingServer, tmp_path: Path) -> None:
    server.is_strange = True
    figures, _ = _make(server, tmp_path)._measure(INGESTION)
    assert figures["errors"] == figures["requests"] > 0
    assert figures["eventsAccepted"] == 0


def test_who_is_asked_to_end_leaves_no_generator_behind(server: _CountingServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    options = ["--rate", "200", "--ramp", "0", "--steady", "300", "--base-url", url, "--api-key", "some-key"]
    command = [sys.executable, "-m", "pulse.cli", "load-test", *options, "--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not server.events:
            assert process.poll() is None
            time.sleep(0.05)
        generators = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    assert generators
    assert psutil.wait_procs(generators, timeout=10)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_results_ends_it_before_anything_is_sent(tmp_path: Path) -> None:
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(click.ClickException, match="can't be written to .*gone"):
        check_folder(tmp_path / "gone")


def test_a_service_that_is_gone_costs_the_database_its_verdicts_alone(tmp_path: Path) -> None:
    gone = LoadTest(f"http://127.0.0.1:{find_free_port()}", "some-key", 1, BRIEF, tmp_path, Console(quiet=True))
    assert gone._judge_database() == []


def test_durations_of_refusals_are_not_kept_for_comparison() -> None:
    kind = {"requests": 100, "errors": 2, "accepted": 98, "counted": 98, "hits": 0, "misses": 0}
    durations = {"p50Ms": 1.0, "p95Ms": 1.0, "p99Ms": 1.0}
    figures = summarize(INGESTION, {"steady": {"durationS": 1, "single": {**kind, **durations}}})
    kept = _pick_comparable(judge(INGESTION, figures, offered_per_s=100))
    assert kept == {"ingest.events": 98.0, "ingest.errors": 2.0}
