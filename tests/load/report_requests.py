"""The reports that are measured: what is asked, cold and warm, over HTTP."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click

from pulse.load.client import Answer, Client

RANGES = (7, 30, 90, 365)
FILTERS = "country==DE;device==mobile"
# From one that every visit passes to one that few do, by what visits have and by what events have; of 30 days, since a
# shorter range is part of it.
FILTERED_DAYS = 30
FILTER_CASES = (
    "device!=x", "page=@/", "event==(none)", "device==mobile", "page==/", "country==DE|FR;device==desktop",
    "source==Google;page=^/shop", "utm_campaign!=(none)", "event!=(none)", "country==FR", "entry_page==/shop/beans-300",
    "page==/shop/beans-300",
)  # fmt: skip
GOALS = (
    {"kind": "event", "name": "bench sign-up", "eventName": "newsletter_signup"},
    {"kind": "page", "name": "bench shop", "path": "/shop/*"},
    {"kind": "value", "name": "bench revenue", "eventName": "checkout", "valueKey": "total_eur"},
)
FUNNEL = {"steps": [{"type": "page", "value": "/"}, {"type": "page", "value": "/shop*"},
                    {"type": "event", "value": "add_to_cart"}, {"type": "event", "value": "checkout"}]}  # fmt: skip
# A report is asked this often, or until its time is up, but at least so often; a slow one until its patience is, twice.
COLD, WARM, LEAST, SECONDS, PATIENCE_S = 60, 150, 5, 4.0, 20.0
# Counting new goals reads all events once for each.
GOALS_S = 3600


class Question(NamedTuple):
    """One request of a report: its name, the path after `/api/v1/projects/<id>`, and a body where it is a POST."""

    report: str
    path: str
    body: bytes | None = None


class Times(NamedTuple):
    """Durations of one kind of request in milliseconds."""

    p50: float
    p95: float
    p99: float
    requests: int


def questions(last_day: date, days: int, with_filters: bool) -> Iterator[Question]:
    """Give out every report of the `days` up to `last_day`."""
    start = last_day - timedelta(days=days - 1)
    span = {"startDate": start.isoformat(), "endDate": last_day.isoformat()}
    text = urlencode(span)
    yield Question("analytics", f"/analytics?{text}")
    if with_filters:
        yield Question("analytics filtered", f"/analytics?{urlencode({**span, 'filters': FILTERS})}")
    yield Question("events", f"/events?{text}&limit=50")
    yield Question("campaigns", f"/campaigns?{text}")
    yield Question("campaigns/compare", f"/campaigns/compare?{text}")
    yield Question("campaigns/top", f"/campaigns/top?{text}&metric=visitors")
    yield Question("goals", f"/goals?{text}")
    yield Question("funnel", "/goals/funnel", json.dumps({**FUNNEL, **span}).encode())


def filter_questions(last_day: date) -> Iterator[Question]:
    """Give out the analytics report with each set of filters, then the broadest compared with the period before."""
    start = last_day - timedelta(days=FILTERED_DAYS - 1)
    span = {"startDate": start.isoformat(), "endDate": last_day.isoformat()}
    for filters in FILTER_CASES:
        yield Question(f"filter {filters}", f"/analytics?{urlencode({**span, 'filters': filters})}")
    compared = {**span, "filters": FILTER_CASES[0], "compare": "previous"}
    yield Question(f"filter {FILTER_CASES[0]} compared", f"/analytics?{urlencode(compared)}")


class Stopped(Exception):
    """A report that the service gave up, as its statements took too long; after so many milliseconds."""

    def __init__(self, took_ms: float) -> None:
        super().__init__(f"stopped after {took_ms:,.0f} ms")
        self.took_ms = took_ms


class Reader:
    """Asks one project's reports, one after the other; `empty_cache` forgets every cached answer."""

    def __init__(self, url: str, api_key: str, project_id: int, empty_cache: Callable[[], None]) -> None:
        self.client = Client(url, api_key, timeout_s=60)
        self.project_id = project_id
        self._empty_cache = empty_cache

    def ask(self, question: Question) -> tuple[Answer, float]:
        """Return the answer and the milliseconds it took. Raises Stopped, or ClickException for any other error."""
        path = f"/api/v1/projects/{self.project_id}{question.path}"
        started = time.perf_counter()
        answer = self.client.get(path) if question.body is None else self.client.post(path, question.body, tries=1)
        took_ms = (time.perf_counter() - started) * 1000
        if answer.status == 503:
            raise Stopped(took_ms)
        if answer.status != 200:
            raise click.ClickException(f"{path}: {answer.status} {answer.message}")
        return answer, took_ms

    def measure_cold(self, question: Question, most: int = COLD) -> list[float]:
        """Return the milliseconds of requests with the cache emptied before each. Raises Stopped."""
        found: list[float] = []
        started = time.monotonic()
        while is_asked_again(len(found), time.monotonic() - started, most):
            found.append(self.ask_cold(question))
        return found

    def ask_cold(self, question: Question) -> float:
        """Return the milliseconds of one request that the cache can't answer."""
        self._empty_cache()
        answer, took_ms = self.ask(question)
        if answer.headers.get("X-Cache", "MISS") != "MISS":
            raise click.ClickException(f"{question.path} came from the cache that was emptied")
        return took_ms

    def measure_warm(self, question: Question) -> Times:
        """Ask again and again what the cache holds."""
        self.ask(question)
        return to_times([self.ask(question)[1] for _ in range(WARM)])

    def takes_filters(self) -> bool:
        """Tell whether the analytics report knows filters."""
        document = self.client.get("/api/v1/openapi.json")
        paths: dict[str, Any] = json.loads(document.body)["paths"]
        (found,) = (item for path, item in paths.items() if path.endswith("/analytics"))
        return any(item["name"] == "filters" for item in found["get"]["parameters"])

    def make_goals(self) -> None:
        """Make the goals that are not there, and return when all of them are counted."""
        known = {goal["name"] for goal in self._goals()}
        for goal in GOALS:
            if goal["name"] not in known:
                answer = self.client.post(f"/api/v1/projects/{self.project_id}/goals", json.dumps(goal).encode())
                if answer.status not in (200, 201):
                    raise click.ClickException(f"The goal {goal['name']!r} was refused: {answer.message}")
        deadline = time.monotonic() + GOALS_S
        while any(goal["status"] != "ready" for goal in self._goals()):
            if time.monotonic() > deadline:
                raise click.ClickException(f"The goals were not counted within {GOALS_S / 60:g} minutes.")
            time.sleep(0.5)

    def _goals(self) -> list[dict[str, Any]]:
        self._empty_cache()
        goals: list[dict[str, Any]] = self.client.get(f"/api/v1/projects/{self.project_id}/goals").data["goals"]
        return goals


def is_asked_again(times: int, took_s: float, most: int = COLD) -> bool:
    """Tell whether a report that was asked so often, in so many seconds, is asked once more."""
    patience_s = SECONDS if times >= LEAST else PATIENCE_S
    return times < most and (times < 2 or took_s < patience_s)


def to_times(found: list[float]) -> Times:
    """Return the percentiles of durations."""
    if len(found) < 2:
        return Times(found[0], found[0], found[0], len(found))
    parts = statistics.quantiles(found, n=100, method="inclusive")
    return Times(parts[49], parts[94], parts[98], len(found))
