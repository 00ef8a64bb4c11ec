"""Statements, single runs and groups of queries: sorting, opening, keyboard."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.performance.page import Changes, shown


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
