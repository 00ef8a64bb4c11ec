"""Alerts ring once, hold on, end by themselves, and reach their receivers even when these were away."""

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pulse.config import Config
from pulse.errors import NotFound
from pulse.monitor import alerts, delivery, files
from pulse.monitor.alerts import State, evaluate
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import ServiceStats
from pulse.monitor.snapshot import Slice
from tests.running import reserve_port

NOW = 1_000_000


def _stats(
    at: int, *, queries: int = 100, slow: int = 0, hits: int = 0, misses: int = 0, used: float = 0.0
) -> ServiceStats:
    times, pool = Histogram(), Histogram()
    for _ in range(queries):
        times.add(1.0)
    for _ in range(20):
        pool.add(used)
    stats = ServiceStats(at=float(at), since=float(at - 3600))
    counts = {"query/slow": slow, "cache/a/hits": hits, "cache/a/misses": misses}
    stats.slices[at - 10] = Slice(at - 10, counts, {"query": times, "pool/used_percent": pool})
    return stats


def _firing(state: State) -> list[str]:
    return [alert.rule for alert in state.active()]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"slow": 6}, "slowQueries"),
        ({"hits": 138, "misses": 62}, "cacheHits"),
        ({"used": 91.0}, "pool"),
    ],
)
def test_each_rule_rings(bad: dict[str, float], rule: str) -> None:
    state = State()
    evaluate(state, _stats(NOW, **bad))  # type: ignore[arg-type]
    assert _firing(state) == [rule]


def test_errors_ring() -> None:
    stats = _stats(NOW)
    found = stats.slices[NOW - 10]
    found.histograms["request/GET /x"] = found.histograms["query"]
    found.counts["server_errors/GET /x"] = 2
    state = State()
    evaluate(state, stats)
    assert _firing(state) == ["errors"]


def test_at_the_limit_and_with_few_samples_it_is_quiet() -> None:
    state = State()
    evaluate(state, _stats(NOW, slow=5, hits=140, misses=60, used=90.0))
    evaluate(state, _stats(NOW + 10, queries=10, slow=10, hits=0, misses=190))
    assert _firing(state) == []


def test_targets_say_since_when() -> None:
    state = State()
    for step, slow in enumerate((0, 0, 3, 3, 0)):
        evaluate(state, _stats(NOW + 10 * step, slow=slow))
        found = state.targets["database.slow_queries"]
        assert (found.status, found.since) == [
            ("met", NOW), ("met", NOW), ("missed", NOW + 20), ("missed", NOW + 20), ("met", NOW + 40),
        ][step]  # fmt: skip


def test_where_it_stands_outlives_a_restart(tmp_path: Path) -> None:
    folder = files.folder_of(tmp_path)
    alerts.check(folder, _stats(NOW, slow=6))
    files.clear(folder)
    state = alerts.load(folder)
    assert _firing(state) == ["slowQueries"]
    assert state.targets["database.slow_queries"].since == NOW


def test_a_figure_that_swings_around_the_limit_rings_once() -> None:
    state = State()
    for step in range(30):
        evaluate(state, _stats(NOW + 10 * step, slow=6 if step % 2 else 4))
    assert (len(state.alerts), len(state.active())) == (1, 1)


def test_it_ends_after_a_minute_of_good_figures_and_may_ring_again() -> None:
    state = State()
    evaluate(state, _stats(NOW, slow=20))
    evaluate(state, _stats(NOW + 10, slow=50))
    evaluate(state, _stats(NOW + 20, slow=0))
    evaluate(state, _stats(NOW + 70, slow=0))
    assert _firing(state) == ["slowQueries"]
    evaluate(state, _stats(NOW + 80, slow=0))
    (alert,) = state.alerts
    assert (alert.worst, alert.ended_at) == (50.0, float(NOW + 80))
    evaluate(state, _stats(NOW + 90, slow=9))
    assert len(state.alerts) == 2


def test_between_limit_and_all_clear_it_goes_on() -> None:
    state = State()
    evaluate(state, _stats(NOW, hits=120, misses=80))
    for step in range(1, 30):
        evaluate(state, _stats(NOW + 10 * step, hits=144, misses=56))
    assert _firing(state) == ["cacheHits"]


def test_it_ends_when_nothing_comes_any_more() -> None:
    state = State()
    evaluate(state, _stats(NOW, slow=20))
    evaluate(state, _stats(NOW + 100, queries=0))
    evaluate(state, _stats(NOW + 170, queries=0))
    assert _firing(state) == []


def test_the_state_is_shared_and_a_damaged_one_is_begun_anew(tmp_path: Path) -> None:
    first = alerts.check(tmp_path, _stats(NOW, slow=20))
    assert alerts.load(tmp_path).active()[0].id == first.active()[0].id
    (tmp_path / "alerts.json").write_text('{"rules": 5')
    assert alerts.load(tmp_path) == State()


def test_an_alert_is_acknowledged_by_the_first(tmp_path: Path) -> None:
    alert = alerts.check(tmp_path, _stats(NOW, slow=20)).active()[0]
    assert alerts.acknowledge(tmp_path, alert.id, "ann").acknowledged_by == "ann"
    assert alerts.acknowledge(tmp_path, alert.id, "bob").acknowledged_by == "ann"
    with pytest.raises(NotFound):
        alerts.acknowledge(tmp_path, "unknown", "ann")


class _Receiver(http.server.BaseHTTPRequestHandler):
    status = 200
    bodies: list[dict[str, object]] = []

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def webhook() -> Iterator[tuple[type[_Receiver], str]]:
    handler = type("Receiver", (_Receiver,), {"bodies": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}/alerts"
        server.shutdown()


def test_a_webhook_that_was_down_gets_the_alert_once(
    tmp_path: Path, webhook: tuple[type[_Receiver], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = webhook
    config = replace(Config(), alert_webhook_url=url)
    handler.status = 500
    alerts.check(tmp_path, _stats(NOW, slow=20), delivery.channels(config))
    assert delivery.deliver_due(tmp_path, config) == 0
    (waiting,) = alerts.load(tmp_path).alerts[0].deliveries
    assert (waiting.attempts, waiting.error is not None) == (1, True)
    assert delivery.deliver_due(tmp_path, config) == 0  # not due yet
    assert len(handler.bodies) == 1
    handler.status = 200
    clock = alerts.time() + 60
    monkeypatch.setattr(delivery, "time", lambda: clock)
    assert delivery.deliver_due(tmp_path, config) == 1
    assert delivery.deliver_due(tmp_path, config) == 0
    assert alerts.load(tmp_path).alerts[0].deliveries == []
    assert handler.bodies[-1]["rule"] == "slowQueries"
    assert handler.bodies[-1]["event"] == "started"
    assert "slow queries: 20.00%" in str(handler.bodies[-1]["text"])


def test_an_all_clear_waits_for_its_alert_and_what_is_given_up_stays_visible(
    tmp_path: Path, webhook: tuple[type[_Receiver], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = webhook
    config = replace(Config(), alert_webhook_url=url)
    handler.status = 500
    clock = alerts.time()
    monkeypatch.setattr(delivery, "time", lambda: clock)
    alerts.check(tmp_path, _stats(NOW, slow=20), delivery.channels(config))
    delivery.deliver_due(tmp_path, config)
    for later in (10, 90):
        alerts.check(tmp_path, _stats(NOW + later, slow=0), delivery.channels(config))
    handler.status = 200
    delivery.deliver_due(tmp_path, config)  # the alert itself is not due again yet
    assert len(handler.bodies) == 1
    for _ in range(2):
        clock += 60
        delivery.deliver_due(tmp_path, config)
    assert [body["event"] for body in handler.bodies] == ["started", "started", "ended"]
    handler.status = 500
    alerts.check(tmp_path, _stats(NOW + 400, slow=20), delivery.channels(config))
    for _ in range(delivery.MAX_ATTEMPTS + 3):
        clock += delivery.LONGEST_RETRY_S
        delivery.deliver_due(tmp_path, config)
    (left,) = alerts.load(tmp_path).alerts[0].deliveries
    assert (left.attempts, left.given_up) == (delivery.MAX_ATTEMPTS, True) and left.error


class _MailServer(socketserver.StreamRequestHandler):
    lines: list[str] = []

    def handle(self) -> None:
        self.wfile.write(b"220 hello\r\n")
        reading = False
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            self.lines.append(line)
            if reading:
                if line == ".":
                    reading = False
                    self.wfile.write(b"250 taken\r\n")
                continue
            reading = line.upper() == "DATA"
            self.wfile.write(b"354 go on\r\n" if reading else b"250 fine\r\n")
            if line.upper() == "QUIT":
                return


class _ReusingServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def test_mail_reaches_every_receiver_once_the_server_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    handler = type("MailServer", (_MailServer,), {"lines": lines})
    reservation, port = reserve_port()
    config = replace(Config(), smtp_url=f"smtp://127.0.0.1:{port}", alert_email_to=("a@x.org", "b@x.org"))
    alerts.check(tmp_path, _stats(NOW, slow=20), delivery.channels(config))
    assert delivery.deliver_due(tmp_path, config) == 0
    (waiting,) = alerts.load(tmp_path).alerts[0].deliveries
    assert (waiting.channel, waiting.attempts) == ("mail", 1) and "refused" in str(waiting.error)
    clock = alerts.time() + 60
    monkeypatch.setattr(delivery, "time", lambda: clock)
    with reservation, _ReusingServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert delivery.deliver_due(tmp_path, config) == 1
        assert delivery.deliver_due(tmp_path, config) == 0
        server.shutdown()
    text = "\n".join(lines)
    assert "rcpt TO:<a@x.org>" in text
    assert "rcpt TO:<b@x.org>" in text
    assert "Subject: Analytics-Pulse alert: slow queries: 20.00% (> 5 %)" in text
