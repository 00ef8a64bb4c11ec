"""What the page shows, and changes of the service's answers that make it show something else."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

Changes = dict[str, Callable[[Any], object]]


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
