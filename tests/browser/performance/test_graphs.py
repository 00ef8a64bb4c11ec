"""Graphs: the last ten minutes, a day with its starts, what is missing."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.performance.page import Changes, shown


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
