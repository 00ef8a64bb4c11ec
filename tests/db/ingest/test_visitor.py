"""Salts and secret in PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, text

from pulse.ingest.visitor import Identity, SaltStore, load_identity

NOW = datetime(2026, 3, 4, 23, 30, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)


def load(engine: Engine, now: datetime) -> Identity:
    with engine.begin() as connection:
        return load_identity(connection, now)


def stored_days(engine: Engine) -> list[date]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT used_on FROM visitor_salts ORDER BY used_on")).scalars())


def test_every_worker_gets_the_same_salts_and_secret(engine: Engine) -> None:
    first, second = load(engine, NOW), load(engine, NOW)
    for day in (TODAY, TODAY + DAY):
        assert first.salt(day) == second.salt(day)
        assert len(first.salt(day)) == 32
    assert first.salt(TODAY) != first.salt(TODAY + DAY)
    assert first.visitor(1, "u-1", "", "", TODAY) == second.visitor(1, "u-1", "", "", TODAY)


def test_workers_that_start_at_once_agree(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load(engine, NOW), range(8)))
    assert len({identity.salt(TODAY) for identity in found}) == 1
    assert len({identity.salt(TODAY + DAY) for identity in found}) == 1
    assert len({identity.visitor(1, "u-1", "", "", TODAY) for identity in found}) == 1


def test_tomorrows_salt_is_there_before_midnight(engine: Engine) -> None:
    early = load(engine, NOW)
    late = load(engine, NOW + DAY)
    assert early.salt(TODAY + DAY) == late.salt(TODAY + DAY), "known to a worker that has not asked since"


def test_a_refresh_keeps_yesterday_and_prepares_tomorrow(engine: Engine) -> None:
    store = SaltStore(engine)
    identity = load(engine, NOW)
    before = {day: identity.salt(day) for day in (TODAY, TODAY + DAY)}
    store.refresh(identity, NOW + DAY)
    assert {day: identity.salt(day) for day in before} == before
    assert stored_days(engine) == [TODAY, TODAY + DAY, TODAY + 2 * DAY]
    assert identity.salt(TODAY + 2 * DAY) == load(engine, NOW + DAY).salt(TODAY + 2 * DAY)


def test_a_salt_derived_in_an_outage_stays_the_days_salt(engine: Engine) -> None:
    store = SaltStore(engine)
    identity, other = load(engine, NOW), load(engine, NOW)
    third_day = NOW + 2 * DAY
    derived = identity.salt(third_day.date())
    store.refresh(identity, third_day)
    store.refresh(other, third_day)
    assert identity.salt(third_day.date()) == other.salt(third_day.date()) == derived
    assert load(engine, third_day).salt(third_day.date()) == derived


def test_who_begins_after_an_outage_of_days_agrees_with_who_went_on(engine: Engine) -> None:
    store = SaltStore(engine)
    identity = load(engine, NOW)
    back = NOW + 3 * DAY
    derived = identity.salt(back.date())
    store.delete_old(back)
    assert stored_days(engine) == [TODAY + 3 * DAY, TODAY + 4 * DAY]
    assert load(engine, back).salt(back.date()) == derived
    store.refresh(identity, back)
    assert identity.salt(back.date()) == derived


def test_a_salt_is_not_derived_from_one_of_weeks_ago(engine: Engine) -> None:
    identity = load(engine, NOW)
    assert load(engine, NOW + 40 * DAY).salt(TODAY + 40 * DAY) != identity.salt(TODAY + 40 * DAY)


def test_old_salts_are_deleted_and_forgotten(engine: Engine) -> None:
    store = SaltStore(engine)
    identity = load(engine, NOW)
    old = identity.salt(TODAY)
    assert store.delete_old(NOW + DAY) == 0
    assert store.delete_old(NOW + 2 * DAY) == 1
    assert stored_days(engine) == [TODAY + DAY, TODAY + 2 * DAY, TODAY + 3 * DAY]
    store.refresh(identity, NOW + 2 * DAY)
    assert identity.salt(TODAY) != old


def test_days_are_utc_days(engine: Engine) -> None:
    elsewhere = datetime.fromisoformat("2026-03-05T01:00:00+05:45")
    load(engine, elsewhere)
    assert stored_days(engine) == [date(2026, 3, 4), date(2026, 3, 5)]
