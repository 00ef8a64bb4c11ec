"""A browser for the run, a fresh profile and a fresh recording server for each test."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.browser import recorder as recording
from tests.browser.recorder import Recorder

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
expect.set_options(timeout=20_000)  # ms; the default of five seconds is short beside other tests


def find_chromium() -> str | None:
    """Return the path of Chromium; None lets Playwright look for its own."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright, which runs once in a process."""
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium: $CHROMIUM, else the system's, else Playwright's own."""
    found = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
    yield found
    found.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    found = browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-GB", timezone_id="Europe/Berlin")
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab."""
    return context.new_page()


@pytest.fixture
def problems(page: Page) -> list[str]:
    """Errors the browser reports: exceptions, and what the Content-Security-Policy stopped."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A server that keeps what the tracker sends."""
    found, server = recording.start()
    yield found
    server.shutdown()
    server.server_close()
