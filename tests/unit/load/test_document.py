"""The performance page says what was measured, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pulse.load.document import PAGE, RESULTS, TEMPLATE, read_results, render
from pulse.monitor.targets import TARGETS

ROOT = Path(__file__).resolve().parents[3]


def _result(*figures: tuple[str, str, float], **more: Any) -> dict[str, Any]:
    rows = [{"name": name, "unit": unit, "median": value, "least": value, "greatest": value, "below": None,
             "above": None, "met": None} for name, unit, value in figures]  # fmt: skip
    machine = {"cpu": "Test CPU", "cores": 2, "memoryGib": 8.0, "system": "Linux", "python": "3.11.0"}
    return {"at": "2026-01-02T03:04:05+00:00", "commit": "abc", "machine": machine, "command": "make it",
            "settings": {}, "calibration": [1], "figures": rows, **more}  # fmt: skip


def test_the_page_is_what_the_results_say() -> None:
    page = render((ROOT / TEMPLATE).read_text(), read_results(ROOT / RESULTS))
    assert (ROOT / PAGE).read_text() == page, "write it anew: python -m tests.load.benchmarks --render"


def test_the_template_holds_no_measured_figure() -> None:
    # The only numbers with a unit are the alerts' limits, which are settings.
    text = re.sub(r"\{\{.*?\}\}|\(slow queries > 5.*?1 %\)|50 to 80 %", "", (ROOT / TEMPLATE).read_text(), flags=re.S)
    assert re.findall(r"\d[\d.,]* ?(?:ms|MB|GB|%|/s)(?!\w)", text) == []


def test_a_figure_stands_with_its_unit() -> None:
    result = {"ingest": _result(("single p99 @ 10/s", "ms", 12.345), ("rate", "/s", 9999.6), ("ratio", "", 0.5))}
    text = "{{ingest: single p99 @ 10/s}} {{ingest: rate}} {{ingest: ratio}} {{when ingest}} {{how ingest}}"
    assert render(text, result) == (
        "12.3 ms 9,999.6/s 0.50 2026-01-02, commit abc, Test CPU, 2 cores, 8 GiB, Linux, Python 3.11.0 make it"
    )


def test_what_nobody_measured_is_shown_as_such() -> None:
    assert render("{{ingest: single p99}} {{when ingest}}", {}) == "not measured not measured"
    assert "not measured" in render("{{table ingest}}", {})
    assert "not measured" in render("{{grid ingest: pool}}", {"ingest": _result(("a", "ms", 1))})
    lines = render("{{targets all}}", {}).splitlines()[2:]
    assert len(lines) == len(TARGETS)
    assert all("not measured" in line for line in lines)


@pytest.mark.parametrize(("value", "word"), [(49.9, " met "), (50.0, "**missed**")])
def test_a_missed_target_is_shown_as_missed(value: float, word: str) -> None:
    page = render("{{targets all}}", {"ingest": _result(("single p99 @ 10,000/s", "ms", value))})
    (line,) = [line for line in page.splitlines() if "| single event p99 |" in line]
    assert word in line
    assert f"{value:.1f} ms | 1 | 2026-01-02 | 2 cores, 8 GiB" in line
    assert "1. `make it`" in page


def test_a_rate_that_is_not_reached_is_missed() -> None:
    page = render("{{targets all}}", {"ingest": _result(("events @ 10,000/s", "/s", 9_999.0))})
    assert "| events stored | 10,000/s | **missed** | 9,999.0/s |" in page


def test_load_tests_tell_of_targets_by_their_own_verdicts(tmp_path: Path) -> None:
    verdicts = [
        {"id": "ingest.events", "unit": "/s", "actual": 1_000.0, "passed": None, "note": "few"},
        {"id": "database.pool", "unit": "%", "actual": 20.0, "passed": True, "note": "more than needed"},
    ]
    load = {**_result(), "startedAt": "2026-01-02", "figures": {"generatorCores": 0.7}, "targets": verdicts}
    (tmp_path / "load-ingestion.json").write_text(json.dumps(load))
    results = read_results(tmp_path)
    assert "| events stored | 10,000/s | few | 1,000.0/s |" in render("{{targets all}}", results)
    assert re.search(r"\| pool used.* \| below: [^|]+ \| 20.0 % \|", render("{{targets all}}", results))
    assert render("{{load-ingestion: generator}}", results) == "0.70 cores"


def test_a_grid_has_a_line_for_each_thing_and_rate() -> None:
    figures = [("pool: p99 @ 5/s", "ms", 1), ("pool: events @ 5/s", "/s", 5), ("pool: p99 @ 9/s", "ms", 2)]
    assert render("{{grid tuning: pool}}", {"tuning": _result(*figures)}).splitlines() == [
        "| | p99, ms | events, /s |",
        "| --- | ---: | ---: |",
        "| pool, 5/s | 1.00 | 5.0 |",
        "| pool, 9/s | 2.00 | |",
    ]


def test_a_pivot_has_a_line_for_each_report_and_a_column_for_each_range() -> None:
    figures = [(f"top {days} d: cold {part} @ 1m", "ms", days) for days in (7, 30) for part in ("p50", "p95", "p99")]
    others = (("top 7 d: cold p50 @ 9m", "ms", 1), ("disk: all @ 1m", "B", 400), ("speed @ 1m", "/s", 4))
    result = {"reports": _result(*figures, *others)}
    result["reports"]["figures"][2]["met"] = False
    assert render("{{pivot reports: cold @ 1m}}", result).splitlines() == [
        "| | 7 d | 30 d |",
        "| --- | ---: | ---: |",
        "| top | 7.00 / 7.00 / **7.00** | 30.0 / 30.0 / 30.0 |",
    ]
    assert render("{{rest reports}}", result).splitlines()[2:] == ["| speed @ 1m, /s | 4.0 |"]
    assert "not measured" in render("{{pivot reports: warm @ 1m}}", result)


def test_a_report_that_was_given_up_is_shown_so() -> None:
    figures = [(f"funnel filtered 90 d: cold {part} @ 9m", "ms", 10_050) for part in ("p50", "p95", "p99")]
    result = _result(*figures, ("funnel filtered 90 d: stopped @ 9m", "ms", 10_050), isComplete=False)
    page = render("{{pivot reports: cold @ 9m}}\n{{when reports}}", {"reports": result})
    assert page.splitlines()[2] == "| funnel filtered | **given up after 10,050** |"
    assert "commit abc, broken off before its end" in page


def test_plans_are_shown_with_what_they_cost() -> None:
    plan = {"statement": "top_pages", "seenIn": "analytics 30 d", "ms": 12.5, "rows": 1000, "buffers": 7}
    scans = [f"  Scan on events_2026_{month:02d}: {month} ms" for month in range(1, 13)]
    lines = ["Append: 9 ms", *scans, "  Sort: 1 ms"]
    page = render("{{plans reports}}", {"reports": _result(plans=[{**plan, "plan": lines}])})
    assert "<b>top_pages</b> (analytics 30 d): 12.5 ms, 1,000 rows and 7 blocks read" in page
    assert page.partition("```text\n")[2].splitlines()[:5] == [*lines[:3], "  … and 10 more of these", lines[-1]]


@pytest.mark.parametrize("text", ["{{ingest}}", "{{pivot ingest: nothing @ 1m}}"])
def test_a_placeholder_that_asks_for_nothing_known_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no figure|no pivot"):
        render(text, {"ingest": _result()})
