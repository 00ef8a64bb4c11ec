"""Raw events past their keeping."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pulse.storage import schema


def months(engine: Engine, parent: str) -> list[str]:
    with engine.begin() as connection:
        return [f"{p.starts_on:%Y-%m}" for p in schema.list_partitions(connection) if p.parent == parent]


@pytest.fixture
def long_running(engine: Engine) -> Engine:
    """A database whose service has run since November 2025, seen in March 2026."""
    with engine.begin() as connection:
        for partition in schema.list_partitions(connection):
            connection.execute(text(f"DROP TABLE {partition.name}"))
    for today in (date(2025, 12, 15), date(2026, 3, 31)):
        schema.make_partitions(engine, today)
    return engine


def test_full_months_are_kept_as_many_as_asked_for(long_running: Engine) -> None:
    dropped = schema.drop_expired(long_running, 2, date(2026, 3, 31))
    assert sorted(dropped) == ["events_2025_11", "events_2025_12", "sessions_2025_11", "sessions_2025_12"]
    for parent in ("events", "sessions"):
        assert months(long_running, parent) == ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05", "2026-06"]
    assert schema.drop_expired(long_running, 2, date(2026, 3, 31)) == []


@pytest.mark.parametrize(("keep", "today"), [(1, date(2026, 1, 1)), (2, date(2026, 12, 31)), (1200, date(2026, 3, 31))])
def test_what_is_made_ahead_is_not_dropped_at_once(long_running: Engine, keep: int, today: date) -> None:
    schema.make_partitions(long_running, today)
    schema.drop_expired(long_running, keep, today)
    assert schema.make_partitions(long_running, today) == []


def test_claimed_ids_and_summaries_are_left_alone(long_running: Engine) -> None:
    with long_running.begin() as connection:
        before = [p.name for p in schema.list_partitions(connection) if p.parent == "event_ids"]
        connection.execute(
            text("INSERT INTO summary_daily VALUES (1, 1, 1, 0, 0, 1, '2025-11-02', 'total', '', '')")
        )
    schema.drop_expired(long_running, 1, date(2026, 3, 31))
    with long_running.begin() as connection:
        assert [p.name for p in schema.list_partitions(connection) if p.parent == "event_ids"] == before
        assert connection.execute(text("SELECT count(*) FROM summary_daily")).scalar() == 1


def test_a_drop_does_not_wait_long_for_a_reader(long_running: Engine) -> None:
    with long_running.begin() as reader:
        reader.execute(text("SELECT count(*) FROM events")).scalar()
        with pytest.raises(OperationalError, match="lock timeout"):
            schema.drop_expired(long_running, 1, date(2026, 3, 31))
    assert "2025-11" in months(long_running, "events")
    assert schema.drop_expired(long_running, 1, date(2026, 3, 31))


def test_partitions_are_tidied_up_by_settings_of_their_own(engine: Engine) -> None:
    def settings() -> dict[str, set[str]]:
        with engine.begin() as connection:
            rows = connection.execute(schema.Q.list_storage).all()
        assert len(rows) == len(schema.wanted_partitions(datetime.now(UTC).date()))
        return {row.parent: set(row.options) for row in rows}

    wanted = {table: {f"{name}={value}" for name, value in own.items()} for table, own in schema.STORAGE.items()}
    assert settings() == wanted
    with engine.begin() as connection:  # as a partition that an older release made
        for partition in schema.list_partitions(connection):
            names = ", ".join(schema.STORAGE[partition.parent])
            connection.execute(text(f"ALTER TABLE {partition.name} RESET ({names})"))
    schema.make_partitions(engine)
    assert settings() == wanted


def test_statistics_of_wide_tables_are_gathered_from_few_rows(engine: Engine) -> None:
    def targets() -> set[int]:
        statement = """
            SELECT DISTINCT coalesce(attstattarget, -1) FROM pg_attribute
            WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped
        """
        with engine.begin() as connection:
            return {row[0] for row in connection.execute(text(statement), {"name": partition.name})}

    with engine.begin() as connection:
        partition = next(p for p in schema.list_partitions(connection) if p.parent == "events")
    assert targets() == {schema.STATISTICS_TARGET}
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {partition.name} ALTER COLUMN path SET STATISTICS -1"))
    schema.make_partitions(engine)
    assert targets() == {schema.STATISTICS_TARGET}
