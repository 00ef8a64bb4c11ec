"""Every target of the board, met, missed and without data."""

import pytest

from pulse.monitor import targets
from pulse.monitor.histogram import Histogram
from pulse.monitor.service import ServiceStats
from pulse.monitor.snapshot import Slice

NOW = 1_000_000.0
API = "/api/v1/projects/<int:project_id>"


def _stats(
    histograms: dict[str, list[float]], counts: dict[str, int] | None = None, *, ago_s: int = 60
) -> ServiceStats:
    found: dict[str, Histogram] = {}
    for name, values in histograms.items():
        found[name] = Histogram()
        for value in values:
            found[name].add(value)
    stats = ServiceStats(at=NOW, since=NOW - 7200)
    start = int(NOW) - ago_s
    stats.slices[start // 10 * 10] = Slice(start // 10 * 10, counts or {}, found)
    stats.minutes[start // 60 * 60] = Slice(start // 60 * 60, counts or {}, found)
    return stats


def _result(stats: ServiceStats, target: str) -> targets.TargetResult:
    return next(found for found in targets.evaluate(stats) if found.id == target)


def test_without_traffic_every_target_has_no_data() -> None:
    results = targets.evaluate(ServiceStats(at=NOW, since=NOW))
    assert {found.status for found in results} == {"noData"}
    assert {found.five_minutes.display for found in results} == {"no data"}
    assert len({found.id for found in results}) == len(targets.TARGETS)


@pytest.mark.parametrize(
    ("target", "route", "good", "bad"),
    [
        ("ingest.single.p50", "POST /api/v1/track/event", 20.0, 30.0),
        ("ingest.single.p95", "POST /api/v1/track/event", 30.0, 50.0),
        ("ingest.single.p99", "POST /api/v1/track/event", 40.0, 60.0),
        ("ingest.batch.p99", "POST /api/v1/track/batch", 80.0, 120.0),
        ("reports.historical.p50", f"GET {API}/analytics", 80.0, 120.0),
        ("reports.historical.p95", f"GET {API}/events", 120.0, 170.0),
        ("reports.historical.p99", f"GET {API}/campaigns", 150.0, 250.0),
        ("reports.realtime.p99", f"GET {API}/realtime", 80.0, 120.0),
    ],
)
def test_latency(target: str, route: str, good: float, bad: float) -> None:
    met, missed = (_stats({f"request/{route}": [value] * 100}) for value in (good, bad))
    assert _result(met, target).status == "met"
    assert _result(missed, target).status == "missed"
    assert _result(missed, target).five_minutes.samples == 100


def test_a_slow_hour_is_seen_after_five_good_minutes() -> None:
    found = _result(_stats({"request/POST /api/v1/track/event": [500.0] * 100}, ago_s=1800), "ingest.single.p99")
    assert (found.five_minutes.status, found.one_hour.status, found.status) == ("noData", "missed", "noData")


@pytest.mark.parametrize(("failed", "status"), [(0, "met"), (1, "missed")])
def test_errors_are_those_of_the_group(failed: int, status: str) -> None:
    key = "POST /api/v1/track/event"
    counts = {f"server_errors/{key}": failed, f"client_errors/{key}": 50, "server_errors/GET /other": 9}
    assert _result(_stats({f"request/{key}": [1.0] * 100}, counts), "ingest.errors").status == status


@pytest.mark.parametrize(("hits", "status"), [(162, "met"), (158, "missed")])
def test_cache_hits(hits: int, status: str) -> None:
    counts = {"cache/a/hits": hits - 10, "cache/b/stale": 10, "cache/b/misses": 200 - hits}
    found = _result(_stats({}, counts), "reports.cache_hits")
    assert (found.status, found.five_minutes.display) == (status, f"{hits / 2:.2f}%")


def test_a_handful_of_samples_is_shown_and_not_judged() -> None:
    found = _result(_stats({}, {"cache/a/hits": 1, "cache/a/misses": 2}), "reports.cache_hits")
    assert (found.status, found.one_hour.status, found.five_minutes.display) == ("noData", "noData", "33.33%")
    assert (found.five_minutes.samples, found.min_samples) == (3, 200)
    key = "POST /api/v1/track/event"
    few = {f"request/{key}": [900.0] * 19, "query": [900.0] * 19}
    results = targets.evaluate(_stats(few, {f"server_errors/{key}": 1, "query/slow": 9}))
    assert {found.status for found in results} == {"noData"}


@pytest.mark.parametrize(("slow", "status"), [(1, "met"), (2, "missed")])
def test_slow_queries(slow: int, status: str) -> None:
    found = _result(_stats({"query": [10.0] * 100}, {"query/slow": slow}), "database.slow_queries")
    assert found.status == status


@pytest.mark.parametrize(("used", "status"), [(40.0, "noData"), (50.0, "met"), (80.0, "met"), (85.0, "missed")])
def test_the_pool_counts_under_load_alone(used: float, status: str) -> None:
    pool = {"pool/used_percent": [used] * 10}
    assert _result(_stats(pool), "database.pool").status == "noData"
    assert _result(_stats({**pool, "request/GET /": [1.0] * 20_000}), "database.pool").status == status


@pytest.mark.parametrize(
    ("events", "refused", "status"), [(3_100_000.0, 0, "met"), (900.0, 0, "noData"), (900.0, 5, "missed")]
)
def test_few_events_are_no_miss_but_refused_ones_are(events: float, refused: int, status: str) -> None:
    counts = {"ingest_refused": refused} if refused else {}
    assert _result(_stats({"ingest_group_events": [events]}, counts), "ingest.events").status == status


def test_targets_read_as_in_the_documentation() -> None:
    texts = {target.id: target.text for target in targets.TARGETS}
    assert texts["ingest.events"] == "10,000/s"
    assert texts["ingest.single.p99"] == "< 50 ms"
    assert texts["reports.cache_hits"] == "> 80 %"
    assert texts["database.pool"] == "50 to 80 %"


@pytest.mark.parametrize(
    "key",
    [
        "OPTIONS /api/v1/track/event",
        "GET /",
        "GET /api/v1/projects/<int:project_id>/api-keys",
        "GET /api/v1/projects",
    ],
)
def test_other_requests_are_in_no_group(key: str) -> None:
    assert targets.group_of(key) is None
