"""Migrations and partitions, against a real server."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from pulse.storage import schema


def test_a_second_run_applies_nothing(engine: Engine) -> None:
    assert schema.migrate(engine) == []


def test_an_edited_migration_is_refused(engine: Engine, tmp_path: Path) -> None:
    for path in schema.MIGRATIONS_DIR.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text() + "\n-- edited")
    with pytest.raises(schema.SchemaError, match="001_initial was edited"):
        schema.migrate(engine, tmp_path)


def test_a_database_of_a_newer_release_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO schema_migrations VALUES (999, 'future', 'x', now())"))
    with pytest.raises(schema.SchemaError, match="upgrade"):
        schema.migrate(engine)


def test_a_failed_migration_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    known = schema.list_migrations()
    for path in schema.MIGRATIONS_DIR.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    bad = tmp_path / f"{len(known) + 1:03d}_bad.sql"
    bad.write_text("CREATE TABLE half (x int); SELECT 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        schema.migrate(engine, tmp_path)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT to_regclass('half')")).scalar() is None
        assert schema.schema_version(connection) == len(known)


@pytest.mark.parametrize("today", [date(2024, 2, 29), date(2025, 1, 1), date(2025, 3, 31), date(2025, 12, 31)])
def test_partitions_hold_every_acceptable_event(today: date) -> None:
    wanted = schema.wanted_partitions(today)
    for parent in ("events", "sessions", "event_ids"):
        for offset in range(-7, 15):
            day = today + timedelta(days=offset)
            claimed = day - timedelta(days=day.weekday()) if parent == "event_ids" else day
            assert [p for p in wanted if p.parent == parent and p.starts_on <= claimed < p.ends_on], (parent, day)


def test_missing_partitions_are_made_once(engine: Engine) -> None:
    assert schema.make_partitions(engine) == []
    made = schema.make_partitions(engine, date.today() + timedelta(days=31))
    assert any(name.startswith("events_") for name in made)
    assert schema.make_partitions(engine, date.today() + timedelta(days=31)) == []


def test_old_weeks_of_event_ids_are_dropped(engine: Engine) -> None:
    with engine.connect() as connection:
        before = {p.name for p in schema.list_partitions(connection)}
    gone = schema.drop_old_event_ids(engine, date.today() + timedelta(days=28))
    with engine.connect() as connection:
        after = {p.name for p in schema.list_partitions(connection)}
    assert gone and before - after == set(gone)
    assert schema.drop_old_event_ids(engine, date.today()) == []
