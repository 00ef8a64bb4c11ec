"""The reset of all figures: asked for twice, refused, and behind a login."""

from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from pulse.config import Config
from pulse.storage.projects import create_user
from tests.browser.performance.page import board_row, shown


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
