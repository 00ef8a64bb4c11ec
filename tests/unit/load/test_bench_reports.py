"""How `make bench-reports` reads what it measures."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.load import benchmarks
from tests.load.bench_reports import GOALS, Record, show_command, unit_of
from tests.load.figures import Goal, summarize
from tests.load.report_costs import Cost, _rows, read_plans
from tests.load.report_requests import COLD, LEAST, RANGES, is_asked_again, questions, to_times


def node(kind: str, rows: float, **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Actual Rows": rows, "Actual Loops": 1, **more}


def test_rows_are_those_that_scans_of_tables_looked_at() -> None:
    scan = node("Index Scan", 2.5, **{"Relation Name": "events", "Actual Loops": 4, "Rows Removed by Filter": 1})
    plan = node("Nested Loop", 40, Plans=[scan, node("CTE Scan", 99), node("Function Scan", 7)])
    assert _rows(plan) == 14


def test_the_three_most_expensive_statements_are_shown_where_they_were_slowest() -> None:
    costs = {
        "analytics 7 d": [Cost("a", 1.0, 1, 1, "Scan"), Cost("b", 5.0, 1, 1, "Scan")],
        "analytics 90 d": [Cost("a", 9.0, 3, 2, "Sort\n  Scan"), Cost("c", 2.0, 1, 1, ""), Cost("d", 0.1, 1, 1, "")],
    }
    found = read_plans(costs)
    assert [(plan["statement"], plan["seenIn"]) for plan in found] == [
        ("a", "analytics 90 d"), ("b", "analytics 7 d"), ("c", "analytics 90 d")
    ]  # fmt: skip
    assert found[0]["plan"] == ["Sort", "  Scan"]


def test_a_goal_is_judged_by_the_median_of_its_runs() -> None:
    runs = [{"x: p99 @ 1m": value, "other @ 1m": 1.0} for value in (5.0, 30.0, 9.0)]
    rows = summarize(runs, {"x: p99": Goal("ms", 10)})
    assert [(row["median"], row["least"], row["greatest"], row["met"]) for row in rows] == [
        (9.0, 5.0, 30.0, True), (1.0, 1.0, 1.0, None)
    ]  # fmt: skip


def test_every_range_of_every_report_is_asked_for() -> None:
    for days in RANGES:
        found = list(questions(date(2026, 3, 31), days, with_filters=True))
        assert {f"{question.report} {days} d: cold p99" for question in found} >= {
            name for name in GOALS if f" {days} d:" in name
        }
        assert all(b"2026-03-31" in (question.path.encode() + (question.body or b"")) for question in found)


def test_percentiles_and_units() -> None:
    assert to_times([float(n) for n in range(1, 102)])[:3] == (51.0, 96.0, 100.0)
    assert unit_of("analytics 7 d: rows") == "rows"
    assert unit_of("disk: events") == "B"
    assert unit_of("analytics 7 d: cold p50") == unit_of("analytics 7 d: DuckDB") == "ms"


@pytest.mark.parametrize(
    ("times", "took_s", "again"),
    [(1, 60.0, True), (2, 60.0, False), (2, 10.0, True), (LEAST, 10.0, False), (LEAST, 1.0, True), (COLD, 1.0, False)],
)
def test_a_slow_report_is_asked_less_often(times: int, took_s: float, again: bool) -> None:
    assert is_asked_again(times, took_s) is again


def test_the_command_names_no_path_of_a_machine() -> None:
    given = ["--filled", "/srv/one", "--runs", "1", "--output=/srv/two.json", "--plans", "/srv/x", "--data=/srv/y"]
    shown = show_command([*given, "--no-duckdb"])
    assert shown.endswith("bench_reports --filled FOLDER --runs 1 --data FOLDER --no-duckdb")


def test_a_run_that_was_stopped_leaves_what_it_measured_but_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    path = tmp_path / "found.json"
    record = Record(path, {"runs": 1})
    record.write(complete=False)
    assert not path.exists()
    record.found.append({"analytics 7 d: cold p99 @ 1m": 250.0})
    record.write(complete=False)
    (row,) = json.loads(path.read_bytes())["figures"]
    assert (row["median"], row["met"]) == (250.0, False)
    assert not benchmarks._keep(path, "reports", "command")
    record.write(complete=True)
    assert benchmarks._keep(path, "reports", "command")
