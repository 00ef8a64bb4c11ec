"""The figures as people and programs read them."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pulse.monitor import analyze_query_patterns, get_query_stats, history, prometheus, report, track_query
from pulse.monitor.recorder import Recorder, recorder, route_scope
from pulse.monitor.service import ServiceStats, add_up


@pytest.fixture
def stats() -> ServiceStats:
    found = Recorder()
    with route_scope("/api/v1/x", "GET"):
        for _ in range(98):
            found.record_query("/* a.fast */ SELECT 1 FROM events JOIN sessions ON true", 10.0, 2)
        for _ in range(2):
            found.record_query("/* a.slow */ UPDATE events SET x = 1", 200.0, 1)
    for status in (200, 200, 404, 503):
        found.record_request("/api/v1/x", "GET", status, 8.0)
    found.count("ingest_dropped_bot", 4)
    found.observe("ingest_group_events", 30)
    found.count("cache/analytics/hits", 3)
    found.count("cache/analytics/misses", 1)
    snapshot = found.snapshot("web", 1.0)
    return add_up([snapshot], snapshot.published_at)


def test_statistics_have_the_contracts_form(stats: ServiceStats) -> None:
    found = get_query_stats(stats)
    assert (found["totalQueries"], found["slowQueries"], found["slowQueryPercentage"]) == (100, 2, "2.00%")
    assert found["averageDuration"] == "13.80ms"
    assert float(found["p50"].removesuffix("ms")) == pytest.approx(10.0, rel=0.05)
    assert float(found["p99"].removesuffix("ms")) == pytest.approx(200.0, rel=0.05)
    assert found["topSlowQueries"][0]["name"] == "a.slow"
    assert found["recentQueries"][0]["route"] == "/api/v1/x"
    assert found["recentQueries"][0]["method"] == "GET"


def test_patterns_are_by_table_type_and_route(stats: ServiceStats) -> None:
    found = analyze_query_patterns(stats)
    assert {name: row["count"] for name, row in found["byTable"].items()} == {"events": 100, "sessions": 98}
    assert {name: row["slowQueries"] for name, row in found["byType"].items()} == {"SELECT": 0, "UPDATE": 2}
    assert found["byRoute"]["GET /api/v1/x"]["averageDuration"] == "13.80ms"
    assert found["repeated"][0] == {
        "name": "a.fast",
        "query": "SELECT ? FROM events JOIN sessions ON true",
        "requests": 1,
        "routes": ["GET /api/v1/x"],
    }


def test_statements_share_all_the_time(stats: ServiceStats) -> None:
    rows = report.list_statements(stats.statements)
    assert [row["share"] for row in rows] == ["71.01%", "28.99%"]


def test_latency_is_by_route(stats: ServiceStats) -> None:
    (row,) = report.report_latency(stats)["routes"]
    assert (row["requests"], row["errors"], row["clientErrors"], row["errorRate"]) == (4, 1, 1, "25.00%")


def test_ingestion_and_cache(stats: ServiceStats) -> None:
    assert report.report_ingestion(stats)["dropped"] == {"bot": 4}
    assert report.report_ingestion(stats)["events"] == 30
    found = report.report_cache(stats, {"hitRate": "0.00%", "isRedisAvailable": False})
    assert (found["hitRate"], found["isRedisAvailable"]) == ("75.00%", False)
    assert found["byNamespace"]["analytics"]["hits"] == 3


@pytest.mark.parametrize(("seconds", "text"), [(4.9, "4s"), (61, "1m 1s"), (3600, "1h 0m 0s"), (93784, "1d 2h 3m 4s")])
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert report.length(seconds) == text


def test_history_has_a_point_for_each_step(stats: ServiceStats) -> None:
    found = history.series(stats, history.read_wish("averageQuery", "5m"), {}, [], None)
    assert found.points is not None
    assert (len(found.points), found.step_seconds, found.unit) == (30, 10, "ms")
    assert [point.value for point in found.points if point.value is not None] == [13.8]
    assert found.points[0].value is None


def test_history_of_an_hour_without_postgresql_is_what_memory_holds(stats: ServiceStats) -> None:
    found = history.series(stats, history.read_wish("p95", "1h"), {}, [], "away")
    assert found.points is not None
    assert (len(found.points), found.step_seconds, found.problem) == (60, 60, "away")
    assert found.points[-1].value is not None


def test_prometheus_shows_the_same_figures(stats: ServiceStats) -> None:
    families = {found.name: found for found in text_string_to_metric_families(prometheus.render(stats).decode())}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    route = (("method", "GET"), ("route", "/api/v1/x"))
    assert samples["pulse_http_request_duration_seconds_count", route] == 4
    assert samples["pulse_http_request_duration_seconds_bucket", (("le", "0.008"), *route)] == 4
    assert samples["pulse_http_request_duration_seconds_bucket", (("le", "0.004"), *route)] == 0
    assert samples["pulse_http_server_errors_total", route] == 1
    assert samples["pulse_query_duration_seconds_sum", ()] == pytest.approx(1.38)
    assert samples["pulse_slow_queries_total", ()] == 2
    assert samples["pulse_statement_calls_total", (("statement", "a.slow"),)] == 2
    assert samples["pulse_events_total", (("name", "ingest_dropped_bot"),)] == 4
    assert samples["pulse_cache_lookups_total", (("namespace", "analytics"), ("outcome", "hits"))] == 3


def test_named_work_is_tracked_as_a_block_and_as_a_decorator() -> None:
    recorder.board.bump()

    @track_query("nightly sums")
    def work(number: int) -> int:
        return number * 2

    with track_query("nightly sums") as tracked:
        tracked.rows = 7
    assert work(4) == 8
    with pytest.raises(KeyError), track_query("nightly sums"):
        raise KeyError
    (found,) = recorder.snapshot().statements
    assert (found.name, found.type, found.times.count, found.rows, found.errors) == ("nightly sums", "TRACKED", 3, 7, 1)
