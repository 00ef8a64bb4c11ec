"""Heads of spans: a report reads the same with and without them, whatever comes late."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pulse.reports import breakdowns
from pulse.reports.breakdowns import Lists, read_lists
from pulse.reports.period import Period
from pulse.rollup.heads import make_missing
from pulse.rollup.rebuild import rebuild
from pulse.rollup.spans import add_up
from pulse.storage import heads
from tests.db.reports.conftest import Site, add_site, make_visits
from tests.db.rollup.conftest import rows_of

FIRST = datetime(2026, 2, 24, tzinfo=UTC)
NOW = FIRST + timedelta(days=60)
PERIODS = [
    (date(2026, 2, 24), date(2026, 4, 4)),
    (date(2026, 3, 1), date(2026, 3, 31)),
    (date(2026, 3, 3), date(2026, 3, 12)),
    (date(2026, 3, 10), date(2026, 3, 10)),
]
LIMITS = (1, 3, 8)


@pytest.fixture
def site(engine: Engine) -> Site:
    """Forty days of visits, weeks and months added up; pages differ in how often they are seen."""
    site = add_site(engine, "Asia/Kolkata")
    chance = random.Random(7)
    visits = make_visits(5, FIRST, 39 * 24, 400)
    site.write(*({**visit, "path": f"/{min(int(chance.paretovariate(0.7)), 90)}"} for visit in visits))
    site.fold()
    add_up(engine, NOW)
    return site


def late_page(path: str, at: datetime, visitor: int = 77) -> dict[str, Any]:
    return {"visitor": visitor, "occurred_at": at, "path": path}


def read_all(site: Site) -> list[Lists]:
    with site.engine.connect() as connection:
        return [
            read_lists(connection, site.project_id, Period(*days, site.timezone, "day"), limit)
            for days in PERIODS for limit in LIMITS
        ]  # fmt: skip


def read_without(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[Lists]:
    with monkeypatch.context() as patched:
        patched.setattr(breakdowns, "MOST", 0)
        return read_all(site)


@pytest.mark.parametrize("most", [4, 16, 100])
def test_lists_are_the_same_with_heads(site: Site, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(heads, "MOST", most)  # so few that some lists can't be told from them
    assert make_missing(site.engine, NOW) == 40 + 6 + 2
    assert make_missing(site.engine, NOW) == 0
    assert read_all(site) == read_without(site, monkeypatch)


def test_heads_are_used(site: Site) -> None:
    make_missing(site.engine, NOW)
    before = read_all(site)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE summary_heads SET packed = '\\x80'"))  # no dimension
    assert read_all(site)[0].top_pages == [] != before[0].top_pages


@pytest.mark.parametrize("most", [4, 100])
def test_late_events_count_at_once(site: Site, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(heads, "MOST", most)
    make_missing(site.engine, NOW)
    day = datetime(2026, 3, 10, 6, tzinfo=UTC)
    for number in range(60):
        site.write(late_page("/new", day + timedelta(seconds=number), 1000 + number))
    site.write(*(late_page("/new", day + timedelta(days=d), 2000 + d) for d in range(-9, 9)))
    site.fold()
    assert read_all(site) == read_without(site, monkeypatch)
    assert read_all(site)[-1].top_pages[0].path == "/new"
    # A visit that goes on takes its exit from one page to another.
    site.write(late_page("/newer", day + timedelta(minutes=2), 1000))
    site.fold()
    assert read_all(site) == read_without(site, monkeypatch)


def test_a_list_without_values_shows_the_first_that_comes_late(engine: Engine) -> None:
    site = add_site(engine, "UTC")
    at = datetime(2026, 3, 10, 6, tzinfo=UTC)
    site.write(late_page("/", at))
    site.fold()
    assert make_missing(engine, NOW) == 1
    site.write({**late_page("/", at + timedelta(hours=2)), "event_type": "custom", "event_name": "signup"})
    site.fold()
    with engine.connect() as connection:
        lists = read_lists(connection, site.project_id, Period(at.date(), at.date(), site.timezone, "hour"), 10)
    assert [(row.name, row.events) for row in lists.top_events] == [("signup", 1)]


def test_what_came_late_is_in_the_heads_after_a_while(site: Site) -> None:
    make_missing(site.engine, NOW)
    site.write(late_page("/new", datetime(2026, 3, 10, 6, tzinfo=UTC)))
    site.fold()
    late = "SELECT length, starts_on FROM summary_heads WHERE late > 0 ORDER BY length"
    assert rows_of(site.engine, late) == [
        ("day", date(2026, 3, 10)), ("month", date(2026, 3, 1)), ("week", date(2026, 3, 9)),
    ]  # fmt: skip
    assert make_missing(site.engine, datetime.now(UTC)) == 0
    assert make_missing(site.engine, datetime.now(UTC) + heads.REST) == 3
    assert rows_of(site.engine, late) == []


def test_a_recount_takes_the_heads_of_its_days(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    make_missing(site.engine, NOW)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE events SET path = '/else' WHERE path = '/1'"))
    rebuild(site.engine, site.project_id, date(2026, 3, 3), date(2026, 3, 12))
    assert read_all(site) == read_without(site, monkeypatch)
    gone = 10 + 2 + 1  # days, weeks and the month that they lie in
    assert rows_of(site.engine, "SELECT count(*) FROM summary_heads") == [(40 + 6 + 2 - gone,)]


def test_a_day_that_is_being_counted_anew_gets_no_head(site: Site) -> None:
    with site.engine.begin() as connection:
        heads.make(connection, site.project_id, "day", date(2026, 1, 1))
    assert rows_of(site.engine, "SELECT count(*) FROM summary_heads") == [(0,)]


def test_a_day_that_goes_on_has_no_head(site: Site) -> None:
    newest = "SELECT max(starts_on) FROM summary_heads WHERE length = 'day'"
    now = datetime(2026, 3, 11, 19, 0, tzinfo=UTC)  # half past midnight of the 12th in Kolkata
    make_missing(site.engine, now)
    assert rows_of(site.engine, newest) == [(date(2026, 3, 10),)]
    make_missing(site.engine, now + timedelta(hours=1))
    assert rows_of(site.engine, newest) == [(date(2026, 3, 11),)]
