"""`pulse demo`: past days at once, so that the graphs are full, then visitors live."""

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pulse.load.bodies import BATCH_EVENTS
from pulse.load.client import Answer, Client
from pulse.load.traffic import Event, Traffic, Visitor, give_id

HISTORY_DAYS = 6.0
# A project with this many events in the last days has graphs to show already.
ENOUGH_EVENTS = 200
MAX_SENDERS = 16

Item = tuple[datetime, Visitor, Event]


@dataclass
class Counts:
    """What became of the events sent."""

    accepted: int = 0
    refused: int = 0
    last_message: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer, events: int) -> None:
        """Count an answer. Raises ClickException when the key isn't accepted: nothing after it would be either."""
        if answer.status in (401, 403):
            raise click.ClickException(f"{answer.message} Set API_KEY to a key with the ingest scope.")
        with self.lock:
            accepted = 0
            if answer.status == 200:
                accepted = int(answer.data.get("accepted", events))
            self.accepted += accepted
            self.refused += events - accepted
            if answer.status != 200:
                self.last_message = answer.message


class Demo:
    """One run against one service. Addresses travel in X-Forwarded-For, which TRUSTED_PROXIES has to believe."""

    def __init__(self, base_url: str, api_key: str, seed: int, console: Console) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._traffic = Traffic(seed)
        self._random = random.Random(seed)
        self._console = console
        self._local = threading.local()
        self.counts = Counts()

    def needs_history(self, project_id: int) -> bool:
        """Tell whether the project has hardly any events; True as well where the key may not read."""
        client = self._client()
        answer = client.get(f"/api/v1/projects/{project_id}/analytics")
        return answer.status != 200 or int(answer.data["overview"]["events"]) < ENOUGH_EVENTS

    def run(self, history_events: int, history_days: float, live_events: int, rate: float) -> None:
        """Send the past in batches, then live events one by one at `rate` a second."""
        columns = (
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as progress:
            if history_events > 0 and history_days > 0:
                task = progress.add_task(f"last {history_days:g} days", total=history_events, note="")
                self._send_history(progress, task, history_events, history_days)
            if live_events > 0:
                task = progress.add_task("live", total=live_events, note="")
                self._send_live(progress, task, live_events, rate)

    def _send_history(self, progress: Progress, task: TaskID, events: int, days: float) -> None:
        items = self._traffic.history(datetime.now(UTC), days, events)[:events]
        for batch in _group_by_country(items):
            body = json.dumps({"events": [_date(event, at) for at, _, event in batch]}).encode()
            answer = self._client().post("/api/v1/track/batch", body, {"X-Forwarded-For": batch[0][1].address})
            self.counts.add(answer, len(batch))
            progress.update(task, advance=len(batch), note=self._note())

    def _send_live(self, progress: Progress, task: TaskID, events: int, rate: float) -> None:
        senders = min(1 + int(rate / 100), MAX_SENDERS)
        waiting: list[Future[None]] = []
        started = time.monotonic()
        with ThreadPoolExecutor(senders) as pool:
            for number, timed in enumerate(self._traffic.stream(rate)):
                if number == events:
                    break
                time.sleep(max(timed.at_s - (time.monotonic() - started), 0))
                waiting.append(pool.submit(self._send_one, timed.visitor, timed.event))
                done = [future for future in waiting if future.done()]
                for future in done:
                    future.result()
                    waiting.remove(future)
                while len(waiting) > senders * 20:  # the service is slower than the rate: don't pile up
                    waiting.pop(0).result()
                    progress.advance(task)
                progress.update(task, advance=len(done), note=self._note())
            for future in waiting:
                future.result()
                progress.update(task, advance=1, note=self._note())

    def _send_one(self, visitor: Visitor, event: Event) -> None:
        body = json.dumps(give_id(event, self._random)).encode()
        headers = {"X-Forwarded-For": visitor.address, "User-Agent": visitor.user_agent}
        self.counts.add(self._client().post("/api/v1/track/event", body, headers), 1)

    def _client(self) -> Client:
        if not hasattr(self._local, "client"):
            self._local.client = Client(self._base_url, self._api_key)
        return self._local.client  # type: ignore[no-any-return]

    def _note(self) -> str:
        return f"[red]{self.counts.refused} refused: {self.counts.last_message}[/]" if self.counts.refused else ""


def _group_by_country(items: list[Item]) -> Iterator[list[Item]]:
    """Yield batches in order of time whose visitors share a country, since a request has one address."""
    waiting: dict[str, list[Item]] = {}
    for item in items:
        batch = waiting.setdefault(item[1].country, [])
        batch.append(item)
        if len(batch) == BATCH_EVENTS:
            yield waiting.pop(item[1].country)
    yield from waiting.values()


def _date(event: Event, at: datetime) -> Event:
    return {**event, "timestamp": at.isoformat(timespec="milliseconds")}
