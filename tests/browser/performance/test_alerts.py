"""Alerts: what they are about, their delivery, and that somebody has seen them."""

from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.performance.page import Changes, raise_alert


def test_an_alert_without_figures_since_the_reset_says_so(page: Page, busy: str, changes: Changes) -> None:
    def reset(data: dict[str, Any]) -> None:
        raise_alert(data)
        data["alerts"]["rules"][0].update(value=None)

    changes[""] = reset
    page.goto(f"{busy}/performance")
    expect(page.get_by_role("region", name="Verdict")).to_contain_text("Slow queries > 5 %, no data now")
    expect(page.locator("#alerts li")).to_contain_text("no data now, worst 9.10 %")


def test_alert_is_acknowledged(page: Page, busy: str, changes: Changes) -> None:
    more: dict[str, Any] = {}
    asked: list[str] = []

    def take(route: Route) -> None:
        asked.append(f"{route.request.method} {route.request.url}")
        more.update(acknowledgedAt="2026-01-01T10:05:00.000+00:00", acknowledgedBy="ada@example.com")
        route.fulfill(json={"success": True, "data": {}})

    waiting = {"channel": "webhook", "attempts": 3, "error": "HTTP Error 503", "givenUp": False}
    more["undelivered"] = [waiting]
    changes[""] = lambda data: raise_alert(data, **more)
    page.route("**/acknowledge", take)
    page.goto(f"{busy}/performance")
    said = page.locator("#alerts li .when").last
    expect(said).to_have_text("webhook not told yet (HTTP Error 503)")
    more["undelivered"] = [{**waiting, "givenUp": True}]
    expect(said).to_have_text("webhook was never told (HTTP Error 503)")
    more["undelivered"] = []
    expect(said).to_be_hidden()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#alerts li")).to_contain_text("Acknowledged by ada@example.com")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    assert asked == [f"POST {busy}/api/v1/performance/alerts/a1/acknowledge"]
