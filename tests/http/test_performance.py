"""The performance API as its users meet it."""

import gzip
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse import jobs
from pulse.app import create_app
from pulse.config import Config
from pulse.monitor import alerts, files, recorder, shared
from pulse.monitor.snapshot import CacheSide
from pulse.storage.engine import Database, build_engine
from pulse.storage.projects import DEVELOPMENT_KEY

API = "/api/v1"
READS = ["", "/queries", "/cache", "/database", "/targets", "/history", "/advice"]


@pytest.fixture
def ask(client: FlaskClient, admin_key: str) -> Callable[..., Any]:
    """GET a path as an administrator and return its data."""

    def get(path: str, **query: str) -> Any:
        answer = client.get(API + path, headers={"X-API-Key": admin_key}, query_string=query)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        assert answer.json["success"] is True
        return answer.json["data"]

    return get


def _post(client: FlaskClient, key: str, path: str) -> TestResponse:
    return client.post(API + path, headers={"X-API-Key": key})


def test_the_overview_has_the_contracts_form(ask: Callable[..., Any], ingest: Callable[..., TestResponse]) -> None:
    assert ingest(type="pageview", url="https://example.com/a").status_code == 200
    data = ask("/performance")
    statistics = data["queries"]["statistics"]
    assert isinstance(statistics["totalQueries"], int)
    assert statistics["totalQueries"] > 0
    for name in ("averageDuration", "p50", "p95", "p99"):
        assert re.fullmatch(r"\d+\.\d\dms", statistics[name]), name
    assert re.fullmatch(r"\d+\.\d\d%", statistics["slowQueryPercentage"])
    assert isinstance(statistics["recentQueries"], list)
    assert isinstance(statistics["topSlowQueries"], list)
    assert {"byTable", "byType", "byRoute"} <= set(data["queries"]["patterns"])
    assert "api_keys" in data["queries"]["patterns"]["byTable"]
    assert {"isRedisAvailable", "memoryCacheSize", "hitRate", "redisInfo"} <= set(data["cache"])
    assert data["cache"]["isRedisAvailable"] is False
    assert data["database"]["totalConnections"] >= 1
    assert {"idleConnections", "waitingRequests"} <= set(data["database"])
    assert re.fullmatch(r"\d+\.\d\d%", data["database"]["utilizationPercentage"])
    assert data["database"]["poolConfig"] == {"max": 20, "min": 2, "acquireTimeoutMs": 30000, "idleTimeoutMs": 10000}
    system = data["system"]
    assert (system["environment"], system["queryMonitoringEnabled"], system["slowQueryThreshold"]) == (
        "test", True, "100ms",
    )  # fmt: skip
    assert (system["redisEnabled"], len(system["workers"])) == (False, 1)
    assert re.fullmatch(r"\d+\.\d\d MB", system["memoryUsage"]["rss"])
    assert len(data["targets"]) == 15
    assert data["alerts"]["active"] == []


@pytest.mark.parametrize("part", ["queries", "cache", "database"])
def test_a_part_is_that_part(ask: Callable[..., Any], part: str) -> None:
    assert set(ask("/performance")[part]) <= set(ask(f"/performance/{part}"))


def test_queries_are_seen_by_route(ask: Callable[..., Any], client: FlaskClient, admin_key: str) -> None:
    client.get(API + "/projects/1/analytics", headers={"X-API-Key": DEVELOPMENT_KEY})
    routes = ask("/performance/queries")["patterns"]["byRoute"]
    assert "GET /api/v1/projects/<int:project_id>/analytics" in routes
    latency = {(row["method"], row["route"]): row for row in ask("/performance")["latency"]["routes"]}
    assert latency["GET", "/api/v1/projects/<int:project_id>/analytics"]["requests"] == 1


def test_a_slow_query_is_counted_logged_and_listed(
    ask: Callable[..., Any], app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), app.extensions["pulse"].database.read() as connection:
        connection.execute(text("/* test.slow */ SELECT pg_sleep(0.12), :secret"), {"secret": "never-shown"})
    assert [r for r in caplog.messages if re.match(r"🐌 Slow query detected \(1\d\d\.\d\dms\)", r)]
    statistics = ask("/performance")["queries"]["statistics"]
    assert statistics["slowQueries"] == 1
    assert statistics["topSlowQueries"][0]["query"] == "SELECT pg_sleep(?), ?"
    assert "never-shown" not in str(statistics)


def test_a_reset_sets_everything_to_nought(ask: Callable[..., Any], client: FlaskClient, admin_key: str) -> None:
    for _ in range(3):
        client.get(API + "/health/ready")
    assert ask("/performance/queries")["statistics"]["totalQueries"] >= 3
    assert _post(client, admin_key, "/performance/reset").status_code == 200
    assert ask("/performance/queries")["statistics"]["totalQueries"] == 0


def test_who_looks_is_not_counted(ask: Callable[..., Any], client: FlaskClient, admin_key: str) -> None:
    client.get(API + "/health/live")
    _post(client, admin_key, "/performance/reset")
    client.get(API + "/health/ready")
    for path in ("/performance", "/performance/database", "/performance/history", "/metrics"):
        client.get(API + path, headers={"X-API-Key": admin_key})
    client.get("/performance")
    client.get("/static/css/base.css")
    data = ask("/performance")
    assert [(row["route"], row["requests"]) for row in data["latency"]["routes"]] == [("/api/v1/health/ready", 1)]
    assert set(data["queries"]["patterns"]["byRoute"]) == {"GET /api/v1/health/ready"}


def test_long_answers_are_gzipped_for_who_takes_it(client: FlaskClient, admin_key: str) -> None:
    def get(path: str, **headers: str) -> TestResponse:
        return client.get(API + path, headers={"X-API-Key": admin_key, **headers})

    plain = get("/performance/targets")
    assert ("Content-Encoding" in plain.headers, plain.headers["Vary"]) == (False, "Accept-Encoding")
    packed = get("/performance/targets", **{"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(packed.data))["data"]) == 15
    assert len(packed.data) == int(packed.headers["Content-Length"]) < len(plain.data) / 3
    assert "Content-Encoding" not in get("/performance/targets", **{"Accept-Encoding": "gzip;q=0"}).headers
    assert "Content-Encoding" not in get("/health/live", **{"Accept-Encoding": "gzip"}).headers
    assert gzip.decompress(get("/metrics", **{"Accept-Encoding": "gzip"}).data).startswith(b"# HELP")


def test_a_gzipped_report_is_known_again(client: FlaskClient, admin_key: str) -> None:
    path, headers = API + "/projects/1/analytics", {"X-API-Key": admin_key, "Accept-Encoding": "gzip"}
    first = client.get(path, headers=headers)
    assert first.headers["Content-Encoding"] == "gzip"
    again = client.get(path, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(path, headers={"X-API-Key": admin_key}).headers["ETag"] == first.headers["ETag"][2:]


def test_the_cache_is_that_of_all_processes(ask: Callable[..., Any], config: Config) -> None:
    other = files.OwnFile(files.folder_of(config.data_dir))
    source = recorder.Recorder()
    source.use_board(recorder.recorder.board)
    found = source.snapshot("web", 1.0)
    found.gauges = {"cache_keys": 70.0, "cache_bytes": 5000.0, "cache_evictions": 3.0}
    found.cache_sides = [CacheSide("redis", "2026-01-01T10:00:00", "starts"), CacheSide("memory", "2026-01-02", "gone")]
    other.write(found)
    cache = ask("/performance/cache")
    other.close()
    assert (cache["memoryCacheSize"], cache["memoryCacheBytes"], cache["evictions"]) == (70, 5000, 3)
    assert (cache["isRedisAvailable"], cache["processes"], cache["processesOnRedis"]) == (False, 1, 0)
    assert [(row["state"], row["reason"]) for row in cache["failover"]["history"]] == [
        ("redis", "starts"), ("memory", "gone"),
    ]  # fmt: skip


def test_the_database_part_asks_postgresql_also_when_the_pool_is_full(ask: Callable[..., Any], app: Flask) -> None:
    primary = app.extensions["pulse"].database.primary
    held = [primary.connect() for _ in range(19)]
    ask("/performance")  # the key is remembered from here on
    held.append(primary.connect())
    try:
        data = ask("/performance/database")
        assert data["serverError"] is None
        assert data["server"]["tables"]
        assert data["activeConnections"] >= 20
        applications = {row["application"] for row in data["server"]["connections"]}
        assert "pulse-monitor" in applications
        assert "database.away" not in {found["id"] for found in ask("/performance/advice")}
    finally:
        for connection in held:
            connection.close()
        app.extensions["pulse.spare"].dispose()


def test_slow_runs_come_with_their_plan(ask: Callable[..., Any]) -> None:
    recorder.recorder.record_query("/* visitor.delete_salts */ DELETE FROM visitor_salts", 5_000.0, 1)

    def run() -> dict[str, Any]:
        found: dict[str, Any] = ask("/performance/queries")["statistics"]["topSlowQueries"][0]
        assert found["name"] == "visitor.delete_salts"
        return found

    assert run()["plan"] is None  # the background has not been there yet
    ask("/performance/queries/visitor.delete_salts/plan")
    assert run()["plan"][0].startswith("Delete on visitor_salts")


def test_a_plan_is_made_of_a_named_statement_without_running_it(
    ask: Callable[..., Any], client: FlaskClient, admin_key: str
) -> None:
    found = ask("/performance/queries/visitor.delete_salts/plan")
    assert found["plan"][0].startswith("Delete on visitor_salts")
    assert "$1" in found["statement"]
    assert ask("/performance/queries/schema.create_migrations_table/plan")["problem"]
    for name in ("schema.none", "none.none", "../x.y", "pg_class"):
        answer = client.get(f"{API}/performance/queries/{name}/plan", headers={"X-API-Key": admin_key})
        assert answer.status_code == 404


def test_history_and_its_errors(ask: Callable[..., Any], client: FlaskClient, admin_key: str) -> None:
    found = ask("/performance/history", metric="requestsPerSecond", range="1h")
    assert (len(found["points"]), found["stepSeconds"], found["problem"]) == (360, 10, None)
    assert found["points"][-1]["value"] is not None
    several = ask("/performance/history", metric="p50,p99", range="14d")
    assert [(series["metric"], len(series["values"])) for series in several["series"]] == [("p50", 1344), ("p99", 1344)]
    answer = client.get(API + "/performance/history?metric=none", headers={"X-API-Key": admin_key})
    assert (answer.status_code, answer.json and answer.json["details"][0]["field"]) == (422, "metric")


def test_without_postgresql_history_shows_what_memory_holds(ask: Callable[..., Any], app: Flask) -> None:
    ask("/performance")  # the key is remembered from here on
    database = app.extensions["pulse"].database
    held = [database.primary.connect() for _ in range(20)]
    # Nor is there a way of its own to look.
    app.extensions["pulse.spare"] = Database(build_engine(app.extensions["pulse"].config, "postgresql+psycopg2://127.0.0.1:1/x"))
    try:
        for chosen, length, step_s in (("1h", 60, 60), ("1y", 1460, 21600)):
            found = ask("/performance/history", metric="requestsPerSecond", range=chosen)
            assert (len(found["points"]), found["stepSeconds"]) == (length, step_s)
            assert found["problem"]
        assert ask("/performance/history")["problem"] is None
    finally:
        for connection in held:
            connection.close()


def test_availability_and_since_are_shown(ask: Callable[..., Any], app: Flask, config: Config) -> None:
    assert ask("/performance")["availability"] is None
    jobs.keep_history(app.extensions["pulse"].database.primary, config)
    data = ask("/performance")
    assert data["availability"]["target"] == "99.9%"
    assert data["availability"]["day"] == {
        "minutes": 0, "availableMinutes": 0, "percent": None, "status": "noData",
        "since": data["availability"]["day"]["since"],
    }  # fmt: skip
    assert all(target["since"] for target in data["targets"])
    assert ask("/performance/targets")[0]["since"] == data["targets"][0]["since"]


def test_an_alert_is_shown_acknowledged_and_over(
    ask: Callable[..., Any], client: FlaskClient, admin_key: str, config: Config
) -> None:
    for _ in range(30):
        recorder.record_request("/broken", "GET", 500, 1.0)
    (found,) = ask("/performance")["alerts"]["active"]
    assert found["rule"] == "errors"
    answer = _post(client, admin_key, f"/performance/alerts/{found['id']}/acknowledge")
    assert answer.json is not None
    assert answer.json["data"]["acknowledgedBy"] == "test"
    assert _post(client, admin_key, "/performance/alerts/none/acknowledge").status_code == 404
    state = alerts.load(files.folder_of(config.data_dir))
    assert state.alerts[0].acknowledged_by == "test"


def test_prometheus_text(client: FlaskClient, admin_key: str) -> None:
    client.get(API + "/health/live")
    answer = client.get(API + "/metrics", headers={"Authorization": f"Bearer {admin_key}"})
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    counted = 'pulse_http_request_duration_seconds_count{method="GET",route="/api/v1/health/live"} 1.0'
    assert counted in answer.text
    assert client.get(API + "/metrics").status_code == 401


@pytest.mark.parametrize("path", [*(f"/performance{part}" for part in READS), "/metrics"])
def test_only_administrators_may_look(client: FlaskClient, path: str) -> None:
    assert client.get(API + path).status_code == 401
    assert client.get(API + path, headers={"X-API-Key": DEVELOPMENT_KEY}).status_code == 403
    assert client.get(API + path, headers={"X-API-Key": "unknown"}).status_code == 401


def test_only_administrators_may_reset(client: FlaskClient) -> None:
    assert client.post(API + "/performance/reset").status_code == 401
    assert _post(client, DEVELOPMENT_KEY, "/performance/reset").status_code == 403


@pytest.mark.parametrize(
    ("headers", "address", "status"),
    [
        ({"Host": "localhost:3001"}, "127.0.0.1", 200),
        ({"Host": "evil.example"}, "127.0.0.1", 401),
        ({"Host": "localhost:3001", "X-Forwarded-For": "1.2.3.4"}, "127.0.0.1", 401),
        ({"Host": "localhost:3001"}, "192.0.2.7", 401),
    ],
)
def test_development_is_open_to_the_own_machine_alone(
    config: Config, engine: Engine, headers: dict[str, str], address: str, status: int
) -> None:
    app = create_app(replace(config, env="development"))
    answer = app.test_client().get(API + "/performance", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert answer.status_code == status
    app.extensions["pulse"].writer.close()
    app.extensions["pulse"].database.dispose()


def test_what_the_documentation_asks_prometheus_for_is_there(
    client: FlaskClient, admin_key: str, ask: Callable[..., Any], ingest: Callable[..., TestResponse]
) -> None:
    """After an event, a report and a round of the background worker's."""
    assert ingest(type="pageview", url="https://example.com/a").status_code == 200
    client.get(API + "/projects/1/analytics", headers={"X-API-Key": admin_key})
    recorder.gauge(shared.FOLD_LAG, 0.0)
    text = client.get("/metrics", headers={"X-API-Key": admin_key}).text
    served = set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))
    docs = Path(__file__).resolve().parents[2] / "docs"
    asked = set()
    for path in (docs / "prometheus-alerts.yml", docs / "grafana" / "analytics-pulse.json"):
        asked |= set(re.findall(r"\bpulse_[a-z_]+", path.read_text("utf-8")))
    assert len(asked) > 15
    # Counted by the background worker; judged from some samples on; a cache without Redis is on no side.
    assert asked - served <= {"pulse_availability_ratio", "pulse_target_met", "pulse_cache_on_redis"}
    assert 'pulse_http_server_errors_total{method="POST",route="/api/v1/track/event"} 0.0' in text


def test_figures_of_another_process_are_in_it(ask: Callable[..., Any], config: Config, tmp_path: Path) -> None:
    folder = files.folder_of(config.data_dir)
    other = recorder.Recorder()
    other.use_board(recorder.recorder.board)
    for _ in range(1000):
        other.record_query("/* other.work */ SELECT 1", 2.0, 1)
    own = files.OwnFile(folder)
    own.write(other.snapshot("worker", 1.0))
    names = {row["name"]: row["calls"] for row in ask("/performance/queries")["statements"]}
    assert names["other.work"] == 1000
    own.close()
    assert shared.collect().histograms["query"].count >= 1000
