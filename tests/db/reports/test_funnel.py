"""Funnels against a plain search of every visitor's events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from pulse.errors import Invalid, Unavailable
from pulse.reports.funnel import FunnelReport, FunnelRequest, FunnelStep, funnel
from pulse.reports.period import resolve
from tests.db.reports.conftest import Site, make_visits

FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)
PAGE = "page"


def count(
    site: Site, *steps: tuple[str, str], window_minutes: int | None = None, timeout_ms: int = 9000
) -> FunnelReport:
    period = resolve("2026-03-01", "2026-04-30", None, site.timezone, FIRST)
    request = FunnelRequest([FunnelStep(*step) for step in steps], window_minutes=window_minutes)  # type: ignore[arg-type]
    with site.engine.connect() as connection:
        return funnel(connection, site.project_id, period, request, timeout_ms)


def visitors(report: FunnelReport) -> list[int]:
    return [step.visitors for step in report.steps]


def walk(site: Site, visitor: int, *pages: tuple[float, str]) -> None:
    """Store pageviews at minutes from the beginning."""
    site.write(*({"visitor": visitor, "occurred_at": FIRST + timedelta(minutes=m), "path": p} for m, p in pages))


def is_step(row: dict[str, Any], step: tuple[str, str]) -> bool:
    kind, value = step
    if kind == PAGE:
        fits = row["path"].startswith(value[:-1]) if value.endswith("*") else row["path"] == value
        return row["event_type"] == "pageview" and fits
    return row["event_type"] != "engagement" and value in (row["event_type"], row.get("event_name"))


def search(rows: list[dict[str, Any]], steps: tuple[tuple[str, str], ...], window: timedelta | None) -> int:
    """How far a visitor gets: from each first step, each next one as early as can be."""
    best = 0
    for index, row in enumerate(rows):
        if not is_step(row, steps[0]):
            continue
        reached = 1
        for later in rows[index + 1 :]:
            if window is not None and later["occurred_at"] - row["occurred_at"] > window:
                break
            if reached < len(steps) and is_step(later, steps[reached]):
                reached += 1
        best = max(best, reached)
    return best


@pytest.mark.parametrize("window_minutes", [None, 1, 11, 60])
@pytest.mark.parametrize(
    "steps",
    [
        ((PAGE, "/a"), (PAGE, "/b")),
        ((PAGE, "/*"), (PAGE, "/*"), (PAGE, "/*")),
        ((PAGE, "/"), ("event", "custom"), (PAGE, "/c"), (PAGE, "/")),
        (("event", "pageview"), ("event", "signup"), (PAGE, "/a")),
        tuple((PAGE, "/*") for _ in range(10)),
    ],
)
def test_visitors_equal_a_search(site: Site, steps: tuple[tuple[str, str], ...], window_minutes: int | None) -> None:
    site.write(*make_visits(9, FIRST, 30, 120))
    window = timedelta(minutes=window_minutes) if window_minutes is not None else None
    by_visitor: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(site.history, key=lambda row: (row["occurred_at"], row["id"])):
        by_visitor.setdefault(row["visitor"], []).append(row)
    reached = [search(rows, steps, window) for rows in by_visitor.values()]
    wanted = [sum(far >= number for far in reached) for number in range(1, len(steps) + 1)]
    assert visitors(count(site, *steps, window_minutes=window_minutes)) == wanted
    assert wanted[1] > 0


def test_the_order_counts(site: Site) -> None:
    walk(site, 1, (0, "/a"), (1, "/x"), (2, "/b"))
    walk(site, 2, (0, "/b"), (1, "/a"))
    walk(site, 3, (0, "/b"))
    assert visitors(count(site, (PAGE, "/a"), (PAGE, "/b"))) == [2, 1]


def test_a_later_beginning_may_lead_further(site: Site) -> None:
    walk(site, 1, (0, "/a"), (50, "/a"), (55, "/b"))
    assert visitors(count(site, (PAGE, "/a"), (PAGE, "/b"), window_minutes=10)) == [1, 1]
    assert visitors(count(site, (PAGE, "/a"), (PAGE, "/b"), window_minutes=4)) == [1, 0]


def test_the_window_is_from_the_first_step(site: Site) -> None:
    walk(site, 1, (0, "/a"), (8, "/b"), (16, "/c"))
    steps = ((PAGE, "/a"), (PAGE, "/b"), (PAGE, "/c"))
    assert visitors(count(site, *steps, window_minutes=16)) == [1, 1, 1]
    assert visitors(count(site, *steps, window_minutes=15)) == [1, 1, 0]


def test_one_event_is_one_step(site: Site) -> None:
    walk(site, 1, (0, "/a"))
    walk(site, 2, (0, "/a"), (0, "/a"))
    assert visitors(count(site, (PAGE, "/a"), (PAGE, "/a"))) == [2, 1]


def test_marks_of_patterns_in_a_path_are_plain(site: Site) -> None:
    walk(site, 1, (0, "/a_b"), (1, "/100%"))
    walk(site, 2, (0, "/axb"), (1, "/100x"))
    assert visitors(count(site, (PAGE, "/a_b"), (PAGE, "/100%"))) == [1, 1]


def test_nobody(site: Site) -> None:
    report = count(site, (PAGE, "/a"), (PAGE, "/b"))
    assert visitors(report) == [0, 0]
    assert report.steps[1].conversion_rate == report.conversion_rate == 0.0


def test_other_projects_and_days_are_left_out(site: Site) -> None:
    site.write({"occurred_at": datetime(2026, 5, 1, tzinfo=UTC), "path": "/a"})
    site.project_id += 1
    assert visitors(count(site, (PAGE, "/a"), (PAGE, "/b"))) == [0, 0]


def test_too_many_wildcards(site: Site) -> None:
    with pytest.raises(Invalid) as caught:
        count(site, (PAGE, "/a"), (PAGE, "*" * 11))
    assert caught.value.details[0].field == "steps[1].value"


def test_a_funnel_that_takes_too_long_says_so(site: Site) -> None:
    with site.engine.begin() as other:
        other.execute(text("LOCK TABLE events"))
        with pytest.raises(Unavailable) as caught:
            count(site, (PAGE, "/a"), (PAGE, "/b"), timeout_ms=50)
    assert "0.05 s" in caught.value.message and "shorter period" in caught.value.message
    assert caught.value.retry_after_s
