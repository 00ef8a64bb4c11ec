"""The verdict, the headline tiles and the target board."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.performance.page import Changes, board_row, miss_target, raise_alert, shown, tile


def test_shows_the_service(page: Page, busy: str, problems: list[str]) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    expect(page.locator("#connection")).to_have_text("Live")
    should_be, five_minutes, hour = board_row(page, "Single event p50")
    assert should_be == "< 25 ms"
    assert re.fullmatch(r"[✓✕][\d.]+ ms\s(met|missed)", five_minutes) and five_minutes == hour
    assert board_row(page, "Real-time p99")[1] == "no data"
    row = page.locator("#board tr", has=page.get_by_text("Single event p99", exact=True))
    expect(row.locator(".note")).to_have_text("too few: 20 of 100")
    assert re.fullmatch(r"[\d.]+ ms\s*\(not judged\)", board_row(page, "Single event p99")[1])
    assert tile(page, "Failed requests") == "0 %" and tile(page, "Ingest p99").endswith(" ms")
    for card, text in {
        "Statements": "ingest.store", "Queries by": "events", "Database": "primary pool", "Cache": "In memory",
        "Requests by route": "/api/v1/track/event", "Ingestion and processes": "20 events stored since the reset",
        "Alerts": "No alert has been raised",
    }.items():  # fmt: skip
        expect(page.get_by_role("region", name=card, exact=True)).to_contain_text(text)
    database = page.get_by_role("region", name="Database", exact=True)
    for fact in ("Found in memory", "waited for", "Every index over 1 MB", "pg_stat_statements is not installed"):
        expect(database).to_contain_text(fact)
    page.request.get(f"{busy}/api/v1/projects/1/analytics?limit=7")
    expect(page.get_by_role("region", name="Cache", exact=True)).to_contain_text("analytics")
    assert problems == []


def test_without_data_it_says_so(page: Page, origin: str, problems: list[str], changes: Changes) -> None:
    def empty(data: dict[str, Any]) -> None:
        data["queries"].update(statements=[], patterns={"byTable": {}, "byType": {}, "byRoute": {}, "repeated": []})
        data["latency"]["routes"] = []
        nothing = {"value": None, "display": "no data", "samples": 0, "status": "noData"}
        for target in data["targets"]:
            target.update(fiveMinutes=nothing, oneHour=nothing, status="noData")

    changes[""] = empty
    changes["/history"] = lambda data: [series["values"].clear() for series in data["series"]]
    page.goto(f"{origin}/performance")
    shown(page)
    expect(page.locator("#verdict")).to_contain_text("No target can be judged yet")
    expect(page.locator("#statements")).to_contain_text("No statement has been run yet")
    expect(page.locator("#slow")).to_contain_text("No query took longer than 100 ms")
    expect(page.locator("#routes")).to_contain_text("No requests in the last 5 minutes")
    expect(page.locator("#graphs .empty:visible")).to_have_text(["No data yet"] * 6)
    assert tile(page, "Ingest p99") == "–"
    assert problems == []


def test_missed_target_and_alert_are_named_first(page: Page, busy: str, changes: Changes) -> None:
    def break_it(data: dict[str, Any]) -> None:
        miss_target(data, "ingest.single.p99", 81.5)
        raise_alert(data)

    def advise(data: list[dict[str, Any]]) -> None:
        about = {"figure": "2 of 2 processes", "advice": "Start it.", "action": None}
        data[:] = [{"id": "cache.redis_away", "severity": "high", "title": "Redis does not answer", **about}]

    changes[""] = break_it
    changes["/advice"] = advise
    page.goto(f"{busy}/performance")
    verdict = page.get_by_role("region", name="Verdict")
    expect(verdict.get_by_role("status")).to_have_text(re.compile(r"^\d targets? missed, 1 alert, 1 urgent finding$"))
    expect(verdict).to_contain_text("Redis does not answer")
    expect(verdict).to_contain_text("slow queries > 5 %, now 7.20 %")
    expect(verdict).to_contain_text("ingestion single event p99 81.5 ms (< 50 ms)")
    assert board_row(page, "Single event p99")[1].split() == ["✕81.5", "ms", "missed"]
    assert tile(page, "Ingest p99") == "81.5 ms"
    expect(page.locator("#alerts li")).to_contain_text("now 7.20 %, worst 9.10 %")


def test_a_full_pool_is_shown_as_the_alert_saw_it(page: Page, busy: str, changes: Changes) -> None:
    def fill(data: dict[str, Any]) -> None:
        for rule in data["alerts"]["rules"]:
            if rule["name"] == "pool":
                rule.update(firing=True, value=98.5)
        now = {"activeConnections": 1, "maxConnections": 12, "waitingRequests": 0, "utilizationPercentage": "8.33%"}
        data["database"].update(now)

    changes[""] = fill
    page.goto(f"{busy}/performance")
    shown(page)
    assert tile(page, "Pool used") == "98.5 %"
    expect(page.locator("#tiles .figure", has_text="Pool used")).to_contain_text("now 1 of 12, 0 waiting")


def test_availability_and_since_when(page: Page, busy: str, changes: Changes) -> None:
    share = {"minutes": 1000, "availableMinutes": 999, "percent": 99.96, "status": "met", "since": "2026-01-01"}
    month = {**share, "percent": 99.5, "status": "missed"}
    changes[""] = lambda data: data.update(availability={"target": "99.9%", "day": share, "month": month})
    page.goto(f"{busy}/performance")
    shown(page)
    verdict = page.get_by_role("region", name="Verdict")
    expect(verdict.get_by_role("status")).to_contain_text("availability short")
    expect(verdict).to_contain_text(re.compile(r"vailable 99\.5 % of the last 30 d \(> 99\.9 %\)"))
    assert [cell.split() for cell in board_row(page, "Available")] == [
        [">", "99.9", "%"], ["✓99.96", "%", "met"], ["✕99.5", "%", "missed"],
    ]  # fmt: skip
    row = page.locator("#board tr", has=page.get_by_text("Single event p50", exact=True))
    expect(row.locator(".note")).to_have_text(re.compile(r"^since \d\d:\d\d$"))
