"""Verdicts on a load's figures, and the file they are written to."""

import json
from pathlib import Path
from typing import Any

import pytest

from pulse.load.machine import describe_machine
from pulse.load.summary import Result, has_passed, judge, judge_database, summarize, write_result
from pulse.monitor.targets import TARGETS


def _kind(**changes: Any) -> dict[str, Any]:
    return {
        "requests": 100, "errors": 0, "accepted": 0, "counted": 0, "hits": 0, "misses": 0, "p50Ms": 5.0, "p95Ms": 9.0,
        "p99Ms": 12.0, "maxMs": 20.0, **changes,
    }  # fmt: skip


def _ingestion(single: dict[str, Any] | None = None, batch: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "ramp": {"durationS": 5, "single": _kind(accepted=100, counted=60)},
        "steady": {
            "durationS": 10,
            "single": _kind(accepted=10_000, counted=6_000, **(single or {})),
            "batch": _kind(accepted=90_000, counted=50_000, **(batch or {})),
        },
    }


def _queries(**changes: Any) -> dict[str, Any]:
    kinds = {"historical": _kind(hits=90, misses=10), "realtime": _kind(hits=95, misses=5)}
    return {"steady": {"durationS": 10, **kinds, "feed": _kind(accepted=500, counted=300), **changes}}


def _missed(load: str, stages: dict[str, Any], **options: Any) -> set[str]:
    return {verdict.id for verdict in judge(load, summarize(load, stages), **options) if verdict.passed is False}


def test_ingestion_in_time_passes() -> None:
    verdicts = judge("ingestion", summarize("ingestion", _ingestion()), offered_per_s=10_000)
    assert has_passed(verdicts)
    assert {v.id for v in verdicts} == {t.id for t in TARGETS if t.area == "ingestion"}
    assert all(v.passed for v in verdicts)


@pytest.mark.parametrize(
    ("single", "batch", "missed"),
    [
        ({"p50Ms": 25.0}, {}, {"ingest.single.p50"}),
        ({"p95Ms": 40.0}, {}, {"ingest.single.p95"}),
        ({"p99Ms": 50.0}, {}, {"ingest.single.p99"}),
        ({"p99Ms": 49.9}, {"p99Ms": 99.9}, set()),
        ({}, {"p99Ms": 100.0}, {"ingest.batch.p99"}),
        ({"errors": 3}, {}, {"ingest.errors"}),
        ({"errors": 2}, {}, set()),
        ({"p99Ms": None}, {}, {"ingest.single.p99"}),
    ],
)
def test_each_ingestion_target_has_its_limit(
    single: dict[str, Any], batch: dict[str, Any], missed: set[str]
) -> None:
    assert _missed("ingestion", _ingestion(single, batch), offered_per_s=10_000) == missed


def test_the_rate_is_that_of_the_steady_stage() -> None:
    figures = summarize("ingestion", _ingestion())
    assert figures["eventsPerSecond"] == 10_000
    assert figures["eventsAccepted"] == 100_100
    assert figures["eventsCounted"] == 56_060


def test_too_few_events_are_a_miss_only_where_enough_were_offered() -> None:
    stages = _ingestion()
    stages["steady"]["batch"]["accepted"] = 80_000
    assert _missed("ingestion", stages, offered_per_s=10_000) == {"ingest.events"}
    verdicts = judge("ingestion", summarize("ingestion", stages), offered_per_s=9_000)
    assert next(v for v in verdicts if v.id == "ingest.events").passed is None


def test_a_service_that_answers_nothing_fails() -> None:
    assert _missed("ingestion", {}) == {t.id for t in TARGETS if t.area == "ingestion"}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, set()),
        ({"historical": _kind(hits=90, misses=10, p50Ms=100.0)}, {"reports.historical.p50"}),
        ({"historical": _kind(hits=90, misses=10, p95Ms=150.0)}, {"reports.historical.p95"}),
        ({"historical": _kind(hits=90, misses=10, p99Ms=200.0)}, {"reports.historical.p99"}),
        ({"realtime": _kind(hits=95, misses=5, p99Ms=100.0)}, {"reports.realtime.p99"}),
        ({"historical": _kind(hits=60, misses=40)}, {"reports.cache_hits"}),
        ({"feed": _kind(errors=4)}, {"reports.errors"}),
    ],
)
def test_each_report_target_has_its_limit(changes: dict[str, Any], missed: set[str]) -> None:
    assert _missed("queries", _queries(**changes)) == missed


def test_quick_refusals_are_no_quick_answers() -> None:
    verdicts = judge("ingestion", summarize("ingestion", _ingestion({"errors": 90})), offered_per_s=10_000)
    durations = [verdict for verdict in verdicts if verdict.unit == "ms"]
    assert all(verdict.passed is None and "errors" in verdict.note for verdict in durations)
    assert not has_passed(verdicts)


def _board(id: str, value: float | None) -> dict[str, Any]:
    return {"id": id, "fiveMinutes": {"value": value}}


@pytest.mark.parametrize(
    ("id", "value", "passed"),
    [
        ("database.query_average", 49.0, True),
        ("database.query_average", 50.0, False),
        ("database.slow_queries", 2.5, False),
        ("database.slow_queries", None, None),
        ("database.pool", 65.0, True),
        ("database.pool", 85.0, False),
        ("database.pool", 10.0, None),
    ],
)
def test_database_targets_come_from_the_service(id: str, value: float | None, passed: bool | None) -> None:
    (verdict,) = judge_database([_board(id, value), _board("ingest.events", 1.0)])
    assert (verdict.id, verdict.passed) == (id, passed)
    assert bool(verdict.note) == (passed is None)


def test_the_results_file_holds_everything(tmp_path: Path) -> None:
    figures = summarize("queries", _queries())
    verdicts = judge("queries", figures)
    at, machine = "2026-01-01T00:00:00+00:00", describe_machine()
    result = Result("queries", "locust", at, "abc", True, {"readers": 3}, machine, figures, verdicts)
    path = write_result(tmp_path, result)
    assert path.name == "query-load-test-results.json"
    found = json.loads(path.read_text())
    assert set(found) == {
        "load", "tool", "startedAt", "commit", "passed", "settings", "machine", "figures", "targets",
    }  # fmt: skip
    assert found["figures"]["cacheHitPercent"] == 92.5
    assert set(found["targets"][0]) == {"id", "name", "target", "unit", "actual", "passed", "note"}
    assert found["machine"]["cores"] >= 1
