"""The way of a stranger's first visit: a real browser, the demo site, and the visit in both reports."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Playwright

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.running import RunningService, run_service, wait_until

# Pages sent at the end of a visit bear the browser's own name, whatever the profile says; headless ones are bots.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """A service as `make run` starts it."""
    with run_service() as running:
        yield running


def report(service: RunningService, name: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{service.url}/api/v1/projects/1/{name}", headers={"X-API-Key": "test_api_key"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


@pytest.mark.timeout(180)
def test_a_visit_to_the_demo_site_comes_back_in_the_reports_and_on_the_page(
    service: RunningService, playwright: Playwright
) -> None:
    browser = playwright.chromium.launch(
        executable_path=find_chromium(), args=[*ARGUMENTS, f"--user-agent={AGENT}"]
    )
    page = browser.new_page()
    page.goto(f"{service.url}/demo")
    page.get_by_role("link", name="See the plans").click()
    page.wait_for_load_state("networkidle")
    wait_until(lambda: report(service, "realtime")["recentPageviews"] >= 2)
    wait_until(lambda: report(service, "analytics")["overview"]["pageviews"] >= 2)
    live, total = report(service, "realtime"), report(service, "analytics")
    assert live["activeVisitors"] == 1
    assert total["overview"]["uniqueVisitors"] == total["overview"]["sessions"] == 1
    assert {row["path"] for row in total["topPages"]} >= {"/demo/pricing"}
    assert total["breakdowns"]["browsers"][0]["name"] == "Chrome"

    page.goto(service.url)
    page.get_by_text("/demo/pricing").first.wait_for()
    assert page.evaluate("document.cookie") == ""
    browser.close()
