"""The list of events: every event once, whatever the page size, the filter and the equal times."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pulse.reports import events as module
from pulse.reports.events import Event, EventFilters, events_page
from pulse.reports.period import Period
from tests.db.reports.conftest import Site, make_visits

DAY = Period(date(2026, 3, 10), date(2026, 3, 10), "UTC", "hour")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def walk(site: Site, period: Period, limit: int, **filters: Any) -> Iterator[Event]:
    """Follow the cursors to the end."""
    cursor = None
    with site.engine.connect() as connection:
        for _ in range(1000):
            page = events_page(connection, site.project_id, period, EventFilters(**filters), limit, cursor)
            assert len(page.events) <= limit
            yield from page.events
            cursor = page.next_cursor
            if cursor is None:
                return
    raise AssertionError("the cursors lead nowhere")


@pytest.mark.parametrize("limit", [1, 7, 10, 1000])
def test_every_event_is_listed_once_newest_first(site: Site, limit: int) -> None:
    times = [NOON + timedelta(microseconds=n // 10) for n in range(60)]
    site.write(*({"occurred_at": at, "id": UUID(int=n * 7 % 60)} for n, at in enumerate(times)))
    found = [(event.occurred_at, event.id) for event in walk(site, DAY, limit)]
    assert found == sorted(((row["occurred_at"], row["id"]) for row in site.history), reverse=True)


def test_the_last_full_page_has_no_cursor(site: Site) -> None:
    site.write(*({"occurred_at": NOON + timedelta(seconds=n)} for n in range(4)))
    with site.engine.connect() as connection:
        page = events_page(connection, site.project_id, DAY, EventFilters(), 4)
    assert (len(page.events), page.next_cursor) == (4, None)


def test_events_that_come_while_paging_are_not_repeated(site: Site) -> None:
    site.write(*({"occurred_at": NOON + timedelta(seconds=n)} for n in range(4)))
    with site.engine.connect() as connection:
        first = events_page(connection, site.project_id, DAY, EventFilters(), 2)
        site.write({"occurred_at": NOON + timedelta(minutes=1)})
        second = events_page(connection, site.project_id, DAY, EventFilters(), 2, first.next_cursor)
    assert [e.occurred_at.second for e in (*first.events, *second.events)] == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("name", "value", "column"),
    [
        ("event_type", "custom", "event_type"),
        ("event_name", "signup", "event_name"),
        ("path", "/b", "path"),
        ("country", "de", "country"),
    ],
)
@pytest.mark.parametrize("scan", [None, 9])
def test_filters_hold_on_every_page(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: str, column: str, scan: int | None
) -> None:
    if scan is not None:
        monkeypatch.setattr(module, "MAX_SCAN", scan)  # pages end before they are full
    site.write(*make_visits(5, NOON, 5, 40))
    wanted = value.upper() if column == "country" else value
    kept = {row["id"] for row in site.history if row[column] == wanted}
    found = [event.id for event in walk(site, DAY, 5, **{name: value})]
    assert len(found) == len(set(found))
    assert set(found) == kept != set()


def test_filters_apply_together(site: Site) -> None:
    site.write(
        {"occurred_at": NOON, "path": "/a", "country": "DE"},
        {"occurred_at": NOON, "path": "/a", "country": "US"},
        {"occurred_at": NOON, "path": "/b", "country": "DE"},
    )
    (found,) = walk(site, DAY, 5, path="/a", country="DE")
    assert (found.path, found.country) == ("/a", "DE")


def test_days_are_the_projects_days(site: Site) -> None:
    period = Period(date(2026, 3, 29), date(2026, 3, 29), "Europe/Berlin", "hour")  # 23 hours
    inside = [datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 21, 59, 59, 999999, tzinfo=UTC)]
    outside = [inside[0] - timedelta(microseconds=1), inside[1] + timedelta(microseconds=1)]
    site.write(*({"occurred_at": at} for at in (*inside, *outside)))
    assert [event.occurred_at for event in walk(site, period, 10)] == inside[::-1]


def test_other_projects_stay_out(site: Site) -> None:
    site.write({"occurred_at": NOON})
    other = Site(site.engine, "UTC", site.project_id + 1)
    other.write({"occurred_at": NOON})
    assert [event.id for event in walk(site, DAY, 10)] == [site.history[0]["id"]]


def test_an_event_shows_pseudonyms_and_its_custom_data_to_the_digit(site: Site) -> None:
    raw = '{"n": 123456789012345678901234567890, "list": [1, null], "note": "\\"ü\\"", "price": 0.10000000000000000001}'
    site.write({"occurred_at": NOON, "visitor": -1, "session_key": 255, "custom_data": msgspec.Raw(raw.encode())})
    site.write({"occurred_at": NOON + timedelta(seconds=1)})
    bare, full = walk(site, DAY, 10)
    assert (full.visitor_id, full.session_id) == ("f" * 16, "00000000000000ff")
    encoded = msgspec.json.encode(full).decode()
    assert f'"customData":{raw}' in encoded
    shown = msgspec.json.decode(encoded)
    assert shown["occurredAt"] == "2026-03-10T12:00:00Z"
    assert "batchId" not in shown
    assert bare.custom_data is None
