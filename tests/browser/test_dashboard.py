"""The first page as somebody uses it: figures, periods, projects, a lost connection, keyboard and phone."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import service as serving
from tests.browser.service import Service


@pytest.fixture
def service() -> Iterator[Service]:
    found, server = serving.start()
    yield found
    server.shutdown()
    server.server_close()


def figure(page: Page, label: str) -> str:
    return page.locator(".figure", has_text=label).locator(".value").inner_text()


def later(page: Page, seconds: int) -> None:
    """Let time pass for the page's timers; `page.clock.install()` must have come first."""
    page.clock.fast_forward(seconds * 1000)


def test_shows_the_report(page: Page, service: Service, problems: list[str]) -> None:
    page.goto(service.origin)
    expect(page.locator("#title")).to_have_text("Shop")
    expect(page.locator(".skeleton")).to_have_count(0)
    assert figure(page, "Visitors now") == "7"
    assert figure(page, "Pageviews") == "2,000"
    assert figure(page, "Bounce rate") == "41.5%"
    assert figure(page, "Session length") == "2m 23s"
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.get_by_role("region", name="Places")).to_contain_text("Germany")
    expect(page.get_by_role("region", name="Sources")).to_contain_text("Google")
    expect(page.get_by_role("region", name="Events")).to_contain_text("signup")
    expect(page.get_by_role("region", name="Being read now")).to_contain_text("/live")
    expect(page.locator("#install")).to_be_hidden()
    assert page.evaluate("Chart.getChart('chart').data.datasets.map(set => set.label)") == ["Visitors", "Pageviews"]
    assert problems == []


def test_what_visitors_send_is_only_ever_text(page: Page, service: Service, problems: list[str]) -> None:
    page.goto(service.origin)
    expect(page.get_by_role("region", name="Pages")).to_contain_text("/<img src=x onerror=alert(1)>")
    assert page.locator(".panels img").count() == 0
    assert problems == []


def test_period_is_asked_for_compared_and_kept_in_the_address(page: Page, service: Service) -> None:
    page.clock.set_fixed_time("2026-03-10T22:30:00Z")  # 23:30 in Berlin
    page.goto(service.origin)
    expect(page.locator("#title")).to_have_text("Shop")
    for choice, expected in {
        "today": ("2026-03-10", "2026-03-10", "hour"),
        "7d": ("2026-03-04", "2026-03-10", "day"),
        "90d": ("2025-12-11", "2026-03-10", "day"),
        "12mo": ("2025-04-01", "2026-03-10", "month"),
    }.items():
        service.asked.clear()
        with page.expect_response(re.compile("/analytics.*compare=previous$")):
            page.click(f'[data-range="{choice}"]')
        asked = service.asked[-1]
        assert (asked["startDate"], asked["endDate"], asked["granularity"]) == expected
        assert f"range={choice}" in page.url
    page.go_back()
    expect(page.locator('[data-range="90d"]')).to_have_attribute("aria-pressed", "true")


def test_filters_by_rows_and_chips(page: Page, service: Service, problems: list[str]) -> None:
    page.goto(service.origin)
    expect(page.locator("#chips li")).to_have_count(0)
    germany = page.get_by_role("button", name="Filter by Germany")
    germany.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chips")).to_contain_text("Country is Germany")
    expect(page.locator(".figure", has_text="Pageviews").locator(".value")).to_have_text("1,000")
    assert service.asked[-1]["filters"] == "country==DE"
    expect(germany).to_be_focused()
    page.get_by_role("button", name="Filter by /<img src=x onerror=alert(1)>").click()
    expect(page.locator("#chips li")).to_have_count(2)
    page.reload()
    expect(page.locator("#chips li")).to_have_count(2)
    expect(page.locator("#chips")).to_contain_text("Page is /<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Remove filter: Country is Germany").click()
    expect(page.locator("#filter-said")).to_have_text("Filtered: Page is /<img src=x onerror=alert(1)>")
    expect(page.locator("#chips button")).to_be_focused()
    page.go_back()
    expect(page.locator("#chips li")).to_have_count(2)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".figure", has_text="Pageviews").locator(".value")).to_have_text("2,000")
    assert "filters" not in page.url
    assert problems == []


def test_filters_of_an_address_are_asked_as_they_are_meant(page: Page, service: Service) -> None:
    filters = "utm_campaign%3D%3Da%5C%3Bb%5C%7Cc%7Cd%3Bplanet%3D%3Dx%3Bpage%3D%5E/blog"
    page.goto(f"{service.origin}/?filters={filters}&compare=off")
    expect(page.locator("#chips li")).to_have_text(["Campaign is a;b|c or d×", "Page begins with /blog×"])
    expect(page.locator(".skeleton")).to_have_count(0)
    assert service.asked[-1]["filters"] == r"utm_campaign==a\;b\|c|d;page=^/blog"
    assert "compare" not in service.asked[-1]


def test_comparison_can_be_chosen(page: Page, service: Service) -> None:
    service.scale = 2
    page.goto(service.origin)
    change = page.locator(".figure", has_text="Pageviews").locator(".change")
    expect(change).to_contain_text("▲ 100%")
    before = page.locator("#figures").bounding_box()
    page.get_by_role("button", name="Off").click()
    expect(change).not_to_contain_text("100%")
    assert page.locator("#figures").bounding_box() == before
    with page.expect_response(re.compile("compare=year")):
        page.get_by_role("button", name="Year ago").click()
    expect(change).to_contain_text("▲ 100%")
    page.reload()
    expect(page.get_by_role("button", name="Year ago")).to_have_attribute("aria-pressed", "true")


def test_own_period(page: Page, service: Service) -> None:
    page.goto(service.origin)
    page.click('[data-range="custom"]')
    page.fill('[name="start"]', "2026-02-10")
    page.fill('[name="end"]', "2026-02-01")
    page.click("#custom button")
    expect(page.locator("#custom .error")).to_have_text("The first day must not be after the last.")
    page.fill('[name="end"]', "2026-02-12")
    with page.expect_response(re.compile("startDate=2026-02-10&endDate=2026-02-12&granularity=day&limit=10&")):
        page.click("#custom button")
    with page.expect_response(re.compile("startDate=2026-02-10&endDate=2026-02-12")):
        page.reload()


def test_other_project(page: Page, service: Service) -> None:
    page.goto(service.origin)
    page.get_by_label("Project").select_option("Other")
    expect(page.locator("#title")).to_have_text("Other")
    expect(page.locator(".skeleton")).to_have_count(0)
    assert service.asked[-1]["project"] == "2"
    page.reload()
    expect(page.locator("#title")).to_have_text("Other")


def test_last_period_is_dashed_while_it_runs(page: Page, service: Service) -> None:
    page.goto(service.origin)
    expect(page.locator(".skeleton")).to_have_count(0)
    dash = """index => Chart.getChart('chart').data.datasets[0].segment.borderDash({p1DataIndex: index})"""
    assert page.evaluate(dash, 29) == [5, 5]
    assert page.evaluate(dash, 28) is None


def test_lines_can_be_chosen(page: Page, service: Service) -> None:
    page.goto(service.origin)
    expect(page.locator(".skeleton")).to_have_count(0)
    page.get_by_role("button", name="Sessions").click()
    page.get_by_role("button", name="Visitors", exact=True).click()
    assert page.evaluate("Chart.getChart('chart').data.datasets.map(set => set.label)") == ["Pageviews", "Sessions"]
    assert page.locator("#chart-table th[scope=col]").all_inner_texts() == ["Period", "Pageviews", "Sessions"]


def test_tabs_by_keyboard(page: Page, service: Service) -> None:
    page.goto(service.origin)
    panel = page.get_by_role("region", name="Technology")
    expect(panel).to_contain_text("Desktop")
    panel.get_by_role("tab", name="Devices").focus()
    page.keyboard.press("ArrowRight")
    expect(panel.get_by_role("tab", name="Browsers")).to_be_focused()
    expect(panel.get_by_role("tab", name="Browsers")).to_have_attribute("aria-selected", "true")
    expect(panel.get_by_role("tabpanel")).to_contain_text("Firefox")
    sources = page.get_by_role("region", name="Sources")
    sources.get_by_role("tab", name="Sources").focus()
    page.keyboard.press("ArrowRight")
    expect(sources.get_by_role("tabpanel")).to_contain_text("news.example/item")


def test_live_figure_follows(page: Page, service: Service) -> None:
    page.clock.install()
    page.goto(service.origin)
    expect(page.locator("#live .value")).to_have_text("7")
    service.active = 9
    later(page, 5)
    expect(page.locator("#live .value")).to_have_text("9")


def test_report_follows_in_place(page: Page, service: Service) -> None:
    page.clock.install()
    page.goto(service.origin)
    expect(page.locator(".skeleton")).to_have_count(0)
    tall = page.evaluate("document.body.scrollHeight")
    service.scale = 2
    later(page, 30)
    expect(page.locator(".figure", has_text="Pageviews").locator(".value")).to_have_text("4,000")
    expect(page.locator(".figure", has_text="Pageviews").locator(".change")).to_contain_text("▲ 100%")
    assert page.evaluate("document.body.scrollHeight") == tall


def test_nothing_is_asked_while_hidden(page: Page, service: Service) -> None:
    page.clock.install()
    page.goto(service.origin)
    expect(page.locator(".skeleton")).to_have_count(0)
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    service.active = 11
    later(page, 120)
    page.evaluate("fetch('/login').then(answer => answer.text())")  # what was asked before is answered by now
    expect(page.locator("#live .value")).to_have_text("7")
    page.evaluate(hide, False)
    expect(page.locator("#live .value")).to_have_text("11")


def test_lost_connection_is_said_and_recovers(page: Page, service: Service) -> None:
    page.clock.install()
    page.goto(service.origin)
    expect(page.locator(".skeleton")).to_have_count(0)
    before = page.locator("#title").bounding_box()
    service.failing = True
    later(page, 5)
    expect(page.locator("#lost")).to_contain_text("The database is away. The figures are from ")
    expect(page.locator("#connection")).to_have_text("Not live")
    assert figure(page, "Pageviews") == "2,000"
    assert page.locator("#title").bounding_box() == before
    service.failing = False
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")


def test_service_away_from_the_start(page: Page, service: Service) -> None:
    page.clock.install()
    service.failing = True
    page.goto(service.origin)
    expect(page.locator("#lost")).to_contain_text("The database is away.")
    service.failing = False
    later(page, 10)
    expect(page.locator("#title")).to_have_text("Shop")


def test_first_project_is_noticed(page: Page, service: Service) -> None:
    page.clock.install()
    projects, service.projects = service.projects, []
    page.goto(service.origin)
    expect(page.locator("#title")).to_have_text("No projects yet")
    expect(page.locator("#figures")).to_be_hidden()
    service.projects = projects
    later(page, 5)
    expect(page.locator("#title")).to_have_text("Shop")
    expect(page.locator("#figures")).to_be_visible()


def test_lost_login_leads_to_the_login(page: Page, service: Service) -> None:
    service.signed_out = True
    page.goto(service.origin + "/?project=2&range=7d")
    page.wait_for_url("**/login?next=%2F%3Fproject%3D2%26range%3D7d")


def test_without_visits_it_says_what_to_do(page: Page, service: Service) -> None:
    page.clock.install()
    service.scale = 0
    page.goto(service.origin)
    install = page.get_by_role("region", name="No visits yet")
    snippet = f'<script defer src="{service.origin}/js/pulse.js" data-api-key="test_api_key"></script>'
    expect(install).to_contain_text(snippet)
    expect(install).to_contain_text(f"curl -X POST {service.origin}/api/v1/track/event")
    expect(page.get_by_role("region", name="Pages")).to_contain_text("Nothing in this period")
    service.scale = 1
    later(page, 30)
    expect(install).to_be_hidden()


def test_theme_is_kept(page: Page, service: Service) -> None:
    page.goto(service.origin)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(browser: Browser, service: Service, scheme: str) -> None:
    context: BrowserContext = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    for path in ("/", "/login", "/demo", "/demo/pricing", "/demo/menu"):
        page.goto(service.origin + path)
        if path == "/":
            expect(page.locator(".skeleton")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    context.close()


def test_demo_shop_tells_the_tracker(page: Page, service: Service, problems: list[str]) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if "/track/" in request.url else None)
    page.route("**/api/v1/track/**", lambda route: route.fulfill(json={"success": True, "data": {}}))
    page.goto(service.origin + "/demo/pricing")
    page.get_by_role("button", name="Sign up").nth(1).click()
    expect(page.locator("#thanks")).to_contain_text("house")
    page.get_by_role("link", name="Menu").click()
    page.get_by_role("link", name="Cortado").click()
    expect(page.locator("#drink")).to_contain_text("As much milk as coffee")
    page.wait_for_function("sessionStorage.getItem('pulse:test_api_key') === '[]'")
    everything = "".join(sent)
    assert '"custom_data":{"plan":"house","price":16}' in everything
    assert f'{service.origin}/demo/menu/cortado"' in everything
    assert problems == []
