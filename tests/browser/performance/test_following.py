"""Figures follow in place: nothing moves, a lost connection is said, a phone has room."""

from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.performance.page import Changes, shown


def test_lost_connection_is_said_and_recovers(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    top = page.locator("#verdict").bounding_box()
    page.route("**/api/v1/**", lambda route: route.abort())
    expect(page.locator("#lost")).to_contain_text("Connection lost. The figures are from ")
    expect(page.locator("#connection")).to_have_text("Not live")
    expect(page.locator("#statements")).to_contain_text("ingest.store")
    assert page.locator("#verdict").bounding_box() == top
    page.unroute("**/api/v1/**")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#lost")).to_be_hidden()


def test_figures_follow_in_place(page: Page, busy: str, changes: Changes) -> None:
    """New figures move neither the page nor the focus, even where a row climbs."""
    figures: dict[str, Any] = {"totalMs": -1.0, "calls": 1}
    changes[""] = lambda data: data["queries"]["statements"][-1].update(name="climber", query="climber", **figures)
    page.goto(f"{busy}/performance")
    shown(page)
    tall = page.evaluate("document.body.scrollHeight")
    rows = page.locator("#statements tbody tr")
    expect(rows.last).to_contain_text("climber")
    page.get_by_role("button", name="climber", exact=True).focus()
    scrolled = page.evaluate("scrollY")
    figures.update(totalMs=1e9, calls=777)
    expect(rows.first).to_contain_text("climber")
    expect(rows.first.locator("td").first).to_have_text("777")
    expect(page.get_by_role("button", name="climber", exact=True)).to_be_focused()
    assert page.evaluate("scrollY") == scrolled
    assert page.evaluate("document.body.scrollHeight") == tall


def test_nothing_moves_while_it_loads(page: Page, busy: str) -> None:
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver(list => {"
        " for (const entry of list.getEntries()) window.moved += entry.value;"
        "}).observe({type: 'layout-shift', buffered: true})"
    )
    page.goto(f"{busy}/performance")
    shown(page)
    assert page.evaluate("moved") < 0.02


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(browser: Browser, busy: str, scheme: str) -> None:
    context: BrowserContext = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{busy}/performance")
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()
