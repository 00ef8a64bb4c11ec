"""Exports read back: what a spreadsheet or a program gets."""

import csv
import io
import json
import tracemalloc
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from pulse.reports import export
from pulse.reports.analytics import analytics
from pulse.reports.campaigns import campaigns
from pulse.reports.events import Event, EventFilters
from pulse.reports.export import DayRow
from pulse.reports.period import Period
from tests.db.reports.conftest import Site, make_visits

FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)
PERIOD = Period(date(2026, 3, 26), date(2026, 4, 2), "UTC", "day")


def export_events(site: Site, filters: EventFilters | None = None) -> list[Event]:
    with site.engine.connect() as connection:
        chunks = export.read_events(connection, site.project_id, PERIOD, filters or EventFilters())
        return [row for rows in chunks for row in rows]  # type: ignore[misc]


def write_csv(site: Site) -> str:
    with site.engine.connect() as connection:
        chunks = export.read_events(connection, site.project_id, PERIOD, EventFilters())
        return b"".join(export.encode_csv(Event, chunks)).decode()


def test_every_event_once_oldest_first(site: Site) -> None:
    site.write(*make_visits(2, FIRST, 96, 300))
    found = export_events(site)
    assert len(found) > export.CHUNK_ROWS
    wanted = sorted((row["occurred_at"], row["id"]) for row in site.history)
    assert [(row.occurred_at, row.id) for row in found] == wanted


def test_filters(site: Site) -> None:
    site.write(*make_visits(2, FIRST, 48, 60))
    found = export_events(site, EventFilters(country="de", path="/a", event_type="pageview"))
    wanted = [
        row for row in site.history
        if (row["country"], row["path"], row["event_type"]) == ("DE", "/a", "pageview")
    ]  # fmt: skip
    assert {row.id for row in found} == {row["id"] for row in wanted}
    assert found


@pytest.mark.parametrize("site", ["Europe/Berlin"], indirect=True)
def test_days_are_those_of_the_report(site: Site) -> None:
    site.write(*make_visits(2, FIRST, 96, 200))
    site.fold()
    period = Period(PERIOD.start, PERIOD.end, "Europe/Berlin", "day")
    with site.engine.connect() as connection:
        rows = [row for rows in export.read_days(connection, site.project_id, period) for row in rows]
        report = analytics(connection, site.project_id, period)
    found = [(str(r.date), r.pageviews, r.events, r.unique_visitors, r.sessions) for r in rows if isinstance(r, DayRow)]
    assert found == [(p.period, p.pageviews, p.events, p.unique_visitors, p.sessions) for p in report.time_series]
    assert found[0][1:] == (0, 0, 0, 0)


def test_campaigns_are_those_of_the_report(site: Site) -> None:
    site.write(*make_visits(2, FIRST, 96, 200))
    site.fold()
    with site.engine.connect() as connection:
        rows = [row for rows in export.read_campaigns(connection, site.project_id, PERIOD) for row in rows]
        assert rows == campaigns(connection, site.project_id, PERIOD, 1000).campaigns
    assert rows


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_text(site: Site, sign: str) -> None:
    site.write({"occurred_at": FIRST, "path": f"{sign}cmd|'/c calc'!A0", "utm_campaign": "plain"})
    [row] = csv.DictReader(io.StringIO(write_csv(site), newline=""))
    assert row["path"] == f"'{sign}cmd|'/c calc'!A0"
    assert row["utmCampaign"] == "plain"


def test_csv_is_rfc_4180(site: Site) -> None:
    strange = 'a"b,c\r\nd\ne;ü 漢 😀'
    site.write({"occurred_at": FIRST, "path": strange, "custom_data": {"k": [1, "x,\"y"]}, "screen_width": 1920})
    whole = write_csv(site)
    assert whole.endswith("\r\n") and "\r\n" in whole and '"a""b,c\r\nd\ne;ü 漢 😀"' in whole
    header, row = csv.reader(io.StringIO(whole, newline=""))
    found = dict(zip(header, row, strict=True))
    assert found["path"] == strange
    assert json.loads(found["customData"]) == {"k": [1, 'x,"y']}
    assert found["occurredAt"] == "2026-03-27T12:00:00+00:00"
    assert found["screenWidth"] == "1920"
    assert found["country"] == ""


@pytest.mark.parametrize("events", [0, 1, 501])
def test_json_is_one_answer(site: Site, events: int) -> None:
    if events:
        site.write(*({"occurred_at": FIRST + timedelta(seconds=n), "custom_data": {"n": n}} for n in range(events)))
    with site.engine.connect() as connection:
        chunks = export.read_events(connection, site.project_id, PERIOD, EventFilters())
        answer = json.loads(b"".join(export.encode_json(chunks)))
    assert answer["success"] is True
    assert [row["customData"]["n"] for row in answer["data"]] == list(range(events))


def test_a_csv_of_nothing_has_its_header(site: Site) -> None:
    assert write_csv(site).startswith("id,eventType,eventName,occurredAt,") and write_csv(site).count("\r\n") == 1


def test_memory_does_not_grow_with_the_rows(site: Site) -> None:
    site.write({"occurred_at": FIRST})
    columns = "project_id, visitor, session_key, client_session, event_type, channel, device, path, batch_id"
    with site.engine.begin() as connection:
        connection.execute(text(
            f"INSERT INTO events (occurred_at, id, {columns}) SELECT occurred_at + n * interval '1 second',"
            f" gen_random_uuid(), {columns} FROM events, generate_series(1, 30000) n"
        ))  # fmt: skip
    tracemalloc.start()
    try:
        with site.engine.connect() as connection:
            chunks = export.read_events(connection, site.project_id, PERIOD, EventFilters())
            size = len(next(chunks))
            assert connection.execute(text("SELECT count(*) FROM pg_cursors")).scalar() == 1
            size += sum(map(len, export.encode_json(chunks)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 15_000_000
    assert peak < 6_000_000
