"""The k6 scripts are valid, hold the service's own targets, and send in an open loop."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pulse.monitor.targets import TARGETS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "load"
LIMITS = {target.id: target for target in TARGETS}


@cache
def _inspect(script: str) -> dict[str, Any]:
    k6 = Path(sys.executable).with_name("k6")
    done = subprocess.run([k6, "inspect", FOLDER / script], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _threshold(script: str, kind: str, part: int) -> float | None:
    for text in _inspect(script)["thresholds"][f"http_req_duration{{stage:steady,kind:{kind}}}"]:
        match = re.fullmatch(rf"p\({part}\)<(\d+)", text)
        if match:
            return float(match[1])
    return None


@pytest.mark.parametrize(
    ("script", "kind", "id"),
    [
        ("ingestion.js", "single", "ingest.single.p50"),
        ("ingestion.js", "single", "ingest.single.p95"),
        ("ingestion.js", "single", "ingest.single.p99"),
        ("ingestion.js", "batch", "ingest.batch.p99"),
        ("queries.js", "historical", "reports.historical.p50"),
        ("queries.js", "historical", "reports.historical.p95"),
        ("queries.js", "historical", "reports.historical.p99"),
        ("queries.js", "realtime", "reports.realtime.p99"),
    ],
)
def test_thresholds_are_the_targets(script: str, kind: str, id: str) -> None:
    assert _threshold(script, kind, int(id[-2:])) == LIMITS[id].below


def test_the_targets_written_to_results_are_the_services() -> None:
    text = (FOLDER / "settings.js").read_text()
    found = re.findall(r"'([\w.]+)': \{ name: '([^']+)', (above|below): (\d+), unit: '([^']+)' \}", text)
    assert {row[0] for row in found} == {target.id for target in TARGETS if target.area != "database"}
    for id, name, side, limit, unit in found:
        assert (LIMITS[id].name, getattr(LIMITS[id], side), LIMITS[id].unit) == (name, float(limit), unit)


@pytest.mark.parametrize("script", ["ingestion.js", "queries.js"])
def test_the_loop_is_open(script: str) -> None:
    scenarios = _inspect(script)["scenarios"]
    assert {scenario["executor"] for scenario in scenarios.values()} == {"constant-arrival-rate"}


def test_whoever_passes_has_stored_ten_thousand_events_a_second() -> None:
    found = _inspect("ingestion.js")
    steady = [found["scenarios"][f"{name}_steady"] for name in ("single", "batch")]
    assert {(stage["timeUnit"], stage["duration"]) for stage in steady} == {("10s", "40s")}
    offered = sum(stage["rate"] * 4 * events for stage, events in zip(steady, (1, 100), strict=True))
    unsent = sum(
        float(found["thresholds"][f"dropped_iterations{{scenario:{name}_steady}}"][0].removeprefix("count<")) * events
        for name, events in (("single", 1), ("batch", 100))
    )
    missing = float(found["thresholds"]["events_missing{stage:steady}"][0].removeprefix("count<="))
    assert 10_000 <= (offered - unsent - missing) / 40 < 10_050


@contextmanager
def _listener() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a server that accepts every event, and the bodies it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(body)
            answer = b'{"data": {"accepted": %d}}' % body.count(b'"event_type"')
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("only", "events"), [("single", 1), ("batch", 100)])
def test_every_request_brings_ids_of_its_own(only: str, events: int, tmp_path: Path) -> None:
    results, requests = tmp_path / "results.json", 80
    with _listener() as (url, bodies):
        command = [Path(sys.executable).with_name("k6"), "run", "--quiet", "--no-usage-report", "--no-thresholds"]
        loop = ["--vus", "2", "--iterations", str(requests)]
        settings = [f"--env={name}" for name in (f"BASE_URL={url}", f"ONLY={only}", f"RESULTS={results}")]
        subprocess.run([*command, *loop, *settings, FOLDER / "ingestion.js"], check=True, capture_output=True)
    sent = [json.loads(body) for body in bodies]
    by_request = [body.get("events", [body]) for body in sent]
    assert [len(found) for found in by_request] == [events] * requests
    for name in ("session_id", "visitor_id"):
        ids = [{event[name] for event in found} for found in by_request]
        assert len(set().union(*ids)) == sum(len(found) for found in ids)
    if only == "single":
        assert len({event["event_id"] for event in sent}) == requests
    assert json.loads(results.read_bytes())["figures"]["eventsAccepted"] == events * requests
