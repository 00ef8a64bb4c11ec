"""The performance page over the real service: figures, sorting, a statement in full, reset, alerts, lost connection."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, Response, request
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from sqlalchemy import Engine
from werkzeug.serving import make_server

from pulse.config import Config
from pulse.monitor import shared
from pulse.storage.projects import DEVELOPMENT_KEY, create_user

Changes = dict[str, Callable[[Any], object]]


@pytest.fixture
def config(config: Config) -> Config:
    """A developer's machine, where the page opens without a login."""
    return replace(config, env="development")


def serve(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def changes() -> Changes:
    """What is changed in the service's real answers, by path under `/api/v1/performance`."""
    return {}


@pytest.fixture
def origin(app: Flask, changes: Changes) -> Iterator[str]:
    """The service, with nothing counted yet."""
    shared.reset()

    @app.after_request
    def change(response: Response) -> Response:
        found = changes.get(request.path.removeprefix("/api/v1/performance"))
        if found is not None and request.path.startswith("/api/v1/performance"):
            body = response.get_json()
            found(body["data"])
            response.set_data(json.dumps(body))
        return response

    yield from serve(app)


@pytest.fixture
def busy(origin: str, app: Flask) -> str:
    """The service after some events and reports."""
    client, key = app.test_client(), {"X-API-Key": DEVELOPMENT_KEY}
    for number in range(20):
        event = {"type": "pageview", "url": f"https://example.com/{number}"}
        assert client.post("/api/v1/track/event", json=event, headers=key).status_code == 200
        assert client.get("/api/v1/projects/1/analytics", headers=key).status_code == 200
    return origin


@pytest.fixture
def problems(page: Page) -> list[str]:
    """Errors the browser reports: exceptions, and what the Content-Security-Policy stopped."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found


def shown(page: Page) -> None:
    expect(page.locator(".skeleton")).to_have_count(0)
    expect(page.locator("main .card").get_by_text("Loading…", exact=True)).to_have_count(0)


def tile(page: Page, label: str) -> str:
    return page.locator("#tiles .figure", has=page.get_by_text(label, exact=True)).locator(".value").inner_text()


def board_row(page: Page, name: str) -> list[str]:
    row = page.locator("#board tr", has=page.get_by_text(name, exact=True)).first
    return [text.strip() for text in row.locator("td").all_inner_texts()]


def miss_target(data: dict[str, Any], target_id: str, value: float) -> None:
    for target in data["targets"]:
        if target["id"] == target_id:
            actual = {"value": value, "display": f"{value:.2f}ms", "samples": 900, "status": "missed"}
            target.update(fiveMinutes=actual, oneHour=actual, status="missed")


def raise_alert(data: dict[str, Any], **more: Any) -> None:
    alert: dict[str, Any] = {
        "id": "a1", "rule": "slowQueries", "message": "slow queries: 7.20% (> 5 %)", "value": "7.20%", "worst": "9.10%",
        "startedAt": "2026-01-01T10:00:00.000+00:00", "endedAt": None, "acknowledgedAt": None, "acknowledgedBy": None,
        "undelivered": [],
    }  # fmt: skip
    data["alerts"]["active"] = [{**alert, **more}]
    data["alerts"]["rules"][0].update(firing=True, value=7.2)


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


def test_an_alert_without_figures_since_the_reset_says_so(page: Page, busy: str, changes: Changes) -> None:
    def reset(data: dict[str, Any]) -> None:
        raise_alert(data)
        data["alerts"]["rules"][0].update(value=None)

    changes[""] = reset
    page.goto(f"{busy}/performance")
    expect(page.get_by_role("region", name="Verdict")).to_contain_text("Slow queries > 5 %, no data now")
    expect(page.locator("#alerts li")).to_contain_text("no data now, worst 9.10 %")


def test_statements_can_be_sorted(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    table = page.get_by_role("table", name="Statements since the last reset")
    expect(table.get_by_role("columnheader", name="Total")).to_have_attribute("aria-sort", "descending")
    for name, column in {"Calls": 1, "Mean": 4, "p95": 5}.items():
        for order in ("descending", "ascending"):
            table.get_by_role("button", name=name, exact=True).click()
            expect(table.get_by_role("columnheader", name=name)).to_have_attribute("aria-sort", order)
            expect(table.locator("[aria-sort]")).to_have_count(1)
            cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
            values = [float(re.sub(r"[^\d.]", "", cell)) * (1000 if cell.endswith(" s") else 1) for cell in cells]
            assert values == sorted(values, reverse=order == "descending") and len(values) > 3


def test_statement_opens_in_full_by_keyboard(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    button = page.get_by_role("button", name="ingest.store", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="ingest.store")
    expect(dialog.get_by_label("Text of the statement")).to_contain_text("SELECT store_events(")
    expect(dialog).to_contain_text("events, ingest_batches")
    expect(dialog.get_by_role("table", name="Routes that run it").locator("tbody tr")).not_to_have_count(0)
    expect(dialog.locator(".trend")).to_contain_text("nothing is kept yet")
    dialog.get_by_text("Plan (made without running it)").press("Enter")
    expect(dialog.get_by_label("Plan", exact=True)).to_contain_text("Result  (cost=")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_the_statements_are_one_tab_stop(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    table = page.get_by_role("table", name="Statements since the last reset")
    names = table.locator("tbody button")
    assert names.count() > 3
    table.get_by_role("button", name="Slow", exact=True).focus()
    page.keyboard.press("Tab")
    expect(names.nth(0)).to_be_focused()
    expect(table.locator(".keys")).to_be_visible()
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", names.count() - 1)):
        page.keyboard.press(key)
        expect(names.nth(place)).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.card').id") == "slow"
    page.keyboard.press("Shift+Tab")
    expect(names.last).to_be_focused()


def test_a_run_opens_its_statement(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    card = page.locator("#slow")
    expect(card.get_by_role("tabpanel")).to_contain_text("No query took longer than 100 ms")
    card.get_by_role("tab", name="All recent").click()
    card.get_by_role("button", name="ingest.store").first.click()
    expect(page.get_by_role("dialog", name="ingest.store")).to_contain_text("Mean time over the last 24 hours")


def test_tabs_by_keyboard(page: Page, busy: str) -> None:
    page.goto(f"{busy}/performance")
    shown(page)
    card = page.locator("#groups")
    card.get_by_role("tab", name="Table").focus()
    page.keyboard.press("ArrowRight")
    expect(card.get_by_role("tab", name="Type")).to_be_focused()
    expect(card.get_by_role("tabpanel", name="Queries by type")).to_contain_text("INSERT")
    page.keyboard.press("End")
    expect(card.get_by_role("tabpanel", name="Queries by route")).to_contain_text("GET /api/v1/projects/")


def test_reset_asks_first(page: Page, busy: str) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(f"{busy}/performance")
    shown(page)
    page.get_by_role("button", name="Reset figures").click()
    dialog = page.get_by_role("dialog", name="Reset all figures?")
    expect(dialog.get_by_role("button", name="Keep them")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert sent == [] and board_row(page, "Single event p50")[1] != "no data"
    page.get_by_role("button", name="Reset figures").click()
    dialog.get_by_role("button", name="Reset figures").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#board tr", has_text="Single event p50").locator("td").nth(1)).to_have_text("no data")
    assert sent == [f"{busy}/api/v1/performance/reset"]


def test_failed_reset_says_why(page: Page, busy: str) -> None:
    message = {"success": False, "error": "UNAVAILABLE", "message": "Not now."}
    page.route("**/performance/reset", lambda route: route.fulfill(status=503, json=message))
    page.goto(f"{busy}/performance")
    page.get_by_role("button", name="Reset figures").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Reset figures").click()
    expect(dialog.get_by_role("alert")).to_have_text("Not now.")
    expect(dialog.get_by_role("button", name="Reset figures")).to_be_enabled()


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


def test_graphs_keep_ten_minutes(page: Page, busy: str, changes: Changes) -> None:
    page.clock.install(time="2026-03-10T12:00:00Z")
    minute = {"start": 0}

    def points(data: dict[str, Any]) -> None:
        steps = range(minute["start"], minute["start"] + 5)
        for series in data["series"]:
            series["values"] = [float(m) for m in steps]
        data.update(stepSeconds=60, startAt=f"2026-03-10T12:{minute['start']:02d}:00Z")

    changes["/history"] = points
    page.goto(f"{busy}/performance")
    read = "Chart.getChart(document.querySelector('#graphs canvas')).data.datasets[0].data.map(point => point.y)"
    canvas = page.locator("#graphs canvas").first
    about = "Requests a second, last ten minutes: Requests/s {0} now, {0} at most"
    expect(canvas).to_have_attribute("aria-label", about.format("3.00"))
    assert page.evaluate(read) == [0, 1, 2, 3]  # the running slice is not shown yet
    for start, newest, expected in ((3, "6.00", [0, 1, 2, 3, 4, 5, 6]), (9, "12.0", [2, 3, 4, 5, 6, 9, 10, 11, 12])):
        minute["start"] = start
        page.clock.fast_forward(5000)
        expect(canvas).to_have_attribute("aria-label", about.format(newest))
        assert page.evaluate(read) == expected


def test_graphs_of_a_day_show_starts_and_what_is_missing(
    page: Page, busy: str, changes: Changes, problems: list[str]
) -> None:
    def day(data: dict[str, Any]) -> None:
        if data["range"] == "24h":
            data["series"][0]["values"][-10:] = [float(n) for n in range(10)]
            data["starts"] = [{"at": data["startAt"], "node": "web1:3001", "version": "1.2.3", "commit": "abc"}]

    changes["/history"] = day
    page.goto(f"{busy}/performance")
    shown(page)
    tall = page.evaluate("document.body.scrollHeight")
    page.get_by_role("tab", name="24 h").click()
    canvas = page.locator("#graphs canvas").first
    expect(canvas).to_have_attribute("aria-label", re.compile("Requests a second, last 24 hours: .* 9.00 at most"))
    expect(page.locator("#ranges")).to_contain_text("web1:3001 started 1.2.3 (abc) at ")
    assert page.evaluate("Chart.getChart(document.querySelector('#graphs canvas')).$starts.length") == 1
    changes["/history"] = lambda data: data.update(problem="PostgreSQL is away", starts=[])
    page.get_by_role("tab", name="14 d").click()
    expect(page.locator("#ranges")).to_contain_text("Older figures are missing: PostgreSQL is away")
    changes.clear()
    page.get_by_role("tab", name="Live").click()
    expect(page.locator("#ranges [data-aside]")).to_be_empty()
    assert page.evaluate("document.body.scrollHeight") == tall
    assert problems == []


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


def test_texts_of_others_are_only_ever_text(page: Page, busy: str, problems: list[str], changes: Changes) -> None:
    def inject(data: dict[str, Any]) -> None:
        evil = "<img src=x onerror=alert(1)>"
        data["queries"]["statements"][0].update(name=evil, query=evil, tables=[evil])

    changes[""] = inject
    page.goto(f"{busy}/performance")
    page.get_by_role("button", name="<img src=x").click()
    expect(page.get_by_label("Text of the statement")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0
    assert problems == []


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


class TestSignedIn:
    """In production the page asks for the login, and its changes carry the login's token."""

    @pytest.fixture
    def config(self, config: Config) -> Config:
        return replace(config, env="test")

    def test_login_then_reset(self, page: Page, origin: str, engine: Engine) -> None:
        with engine.begin() as connection:
            create_user(connection, "ada@example.com", "correct horse battery")
        page.goto(f"{origin}/performance")
        page.wait_for_url("**/login?next=/performance")
        page.get_by_label("Email").fill("ada@example.com")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/performance")
        page.get_by_role("button", name="Reset figures").click()
        with page.expect_response("**/performance/reset") as answer:
            page.get_by_role("dialog").get_by_role("button", name="Reset figures").click()
        assert answer.value.status == 200
        expect(page.get_by_role("dialog")).to_have_count(0)
