"""Is every accepted event in the table, and counted once? Functional questions, whatever the speed."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console

from pulse.load.client import Client

PAGE = 1000
FOLD_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What the service knew at a moment: events in its reports, and the moment."""

    counted: int
    at: datetime


class Counter:
    """Counts a project's events through the API. Times are compared with this machine's clock."""

    def __init__(self, client: Client, project_id: int) -> None:
        self._client = client
        self._path = f"/api/v1/projects/{project_id}"

    def take(self) -> Standing:
        """Return where things stand before a load."""
        return Standing(self._count_reported(), datetime.now(UTC))

    def count_rows(self, since: Standing) -> tuple[int, int]:
        """Page through the events since then; return how many rows there are, and how many of them repeat an id."""
        ids: set[str] = set()
        cursor, rows = "", 0
        while True:
            page = self._read(f"{self._path}/events?limit={PAGE}{self._range()}{cursor}")
            for event in page["events"]:
                if datetime.fromisoformat(event["occurredAt"]) < since.at:
                    return rows, rows - len(ids)
                ids.add(event["id"])
                rows += 1
            if page["nextCursor"] is None:
                return rows, rows - len(ids)
            cursor = f"&cursor={page['nextCursor']}"

    def await_reported(self, since: Standing, wanted: int) -> int:
        """Return how many events the reports have gained, once that is `wanted` or FOLD_TIMEOUT_S have passed."""
        deadline = time.monotonic() + FOLD_TIMEOUT_S
        while True:
            gained = self._count_reported() - since.counted
            if gained == wanted or time.monotonic() > deadline:
                return gained
            time.sleep(0.5)

    def _count_reported(self) -> int:
        return int(self._read(f"{self._path}/analytics?{self._range()[1:]}")["overview"]["events"])

    def _range(self) -> str:
        # The project's day may be the day before or after that of UTC.
        today = datetime.now(UTC).date()
        return f"&startDate={today - timedelta(days=2)}&endDate={today + timedelta(days=1)}"

    def _read(self, path: str) -> Any:
        answer = self._client.get(path)
        if answer.status != 200:
            raise click.ClickException(f"GET {path}: {answer.message}")
        return answer.data


def check_counts(console: Console, counter: Counter, before: Standing, accepted: int, counted: int) -> bool:
    """Compare what was accepted with the table and the reports; print both; return whether they agree."""
    rows, repeated = counter.count_rows(before)
    reported = counter.await_reported(before, counted)
    lines = (
        ("rows in the table", accepted, rows), ("rows that repeat an id", 0, repeated),
        ("events in the reports", counted, reported),
    )  # fmt: skip
    for name, wanted, found in lines:
        word = "[green]PASS[/]" if wanted == found else "[bold red]FAIL[/]"
        console.print(f"  {word}  {name}: {found:,}, wanted {wanted:,}")
    return all(wanted == found for _, wanted, found in lines)
