"""Bench data in the tables: the right number, on the right days, counted as the fold counts."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console
from sqlalchemy import Engine

from pulse.config import Config
from pulse.load.bench_data import filling
from pulse.load.bench_data.run import Outcome, Wish, check_disk, make_plan, run
from pulse.rollup import packing
from pulse.storage import segments
from pulse.storage.columns import EVENT_DIMENSIONS, VISIT_DIMENSIONS
from tests.db.rollup.conftest import rows_of
from tests.db.rollup.recount import recount_sessions, recount_spans, recount_summaries
from tests.db.rollup.state import check, forgive, stored_daily, stored_sessions, stored_spans

QUIET = Console(quiet=True)
WISH = Wish(events=3_000, days=24, seed=7, processes=1)
ZONES = {"Bench large": "Europe/Berlin", "Bench medium": "America/New_York", "Bench small": "Asia/Kolkata"}


def fill(engine: Engine, config: Config, wish: Wish = WISH) -> Outcome:
    assert config.database_url is not None
    return run(engine, config.database_url, config, wish, QUIET)


def read_events(engine: Engine) -> list[dict[str, Any]]:
    return [{**row._mapping, "id": str(row.id)} for row in rows_of(engine, "SELECT * FROM events")]


def test_a_run_that_was_broken_off_is_finished_and_counted_as_the_fold_counts(engine: Engine, config: Config) -> None:
    assert config.database_url is not None
    with engine.begin() as connection:
        plan = make_plan(connection, WISH)
    filling.make_partitions(engine, plan)
    tasks = list(plan.tasks())
    with filling.Workers(config, config.database_url, 1) as workers:
        workers.fill(tasks[:3], lambda events: None)
    already = sum(task.events for task in tasks[:3])

    outcome = fill(engine, config)
    assert outcome.filled_events == WISH.events - already
    events = read_events(engine)
    assert len(events) == WISH.events
    zones = {row.id: row.timezone for row in rows_of(engine, "SELECT * FROM projects WHERE name LIKE 'Bench%'")}
    assert sorted(zones.values()) == sorted(ZONES.values())
    check(engine, events, zones)

    days = {(row.project_id, row.day) for row in rows_of(engine, "SELECT * FROM summary_daily WHERE dimension='total'")}
    assert {day for _, day in days} == {plan.last_day - timedelta(days=step) for step in range(24)}
    assert max(event["occurred_at"] for event in events) < datetime.now(UTC)
    batches = rows_of(engine, "SELECT * FROM ingest_batches")
    assert {batch.id for batch in batches} == {event["batch_id"] for event in events}
    assert sum(batch.events for batch in batches) == WISH.events
    assert all(batch.folded_at is not None for batch in batches)
    assert rows_of(engine, "SELECT FROM summary_weekly"), "past weeks are added up"

    assert fill(engine, config).filled_events == 0
    assert len(read_events(engine)) == WISH.events
    with pytest.raises(click.ClickException, match="has events on 24 of these days already"):
        fill(engine, config, Wish(events=3_000, days=24, seed=8))


def test_it_fills_a_project_of_yours_in_its_own_zone(engine: Engine, config: Config) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO projects (id, name, timezone) VALUES (70, 'mine', 'Asia/Kathmandu')")
    # The day on which a leap day is, long past: its partitions are made.
    fill(engine, config, Wish(1_000, 2, 1, (70,), date(2024, 3, 1), 1))
    events = read_events(engine)
    assert {event["project_id"] for event in events} == {70}
    assert len(events) == 1_000
    check(engine, events, {70: "Asia/Kathmandu"})
    found = rows_of(engine, "SELECT day FROM summary_daily WHERE dimension = 'total' ORDER BY day")
    assert [row.day for row in found] == [date(2024, 2, 29), date(2024, 3, 1)]


def test_several_add_to_packed_days_at_once(engine: Engine, config: Config) -> None:
    assert config.database_url is not None
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO projects (id, name, timezone) VALUES (70, 'mine', 'Asia/Kathmandu')")
    last_day = date(2026, 3, 11)  # week and month are long past, and are added up after the first set
    fill(engine, config, Wish(9_000, 2, 1, (70,), last_day, 1))
    drawn = read_packs(engine)
    assert [len(visits) > 500 for visits in drawn] == [True, True]
    for row in rows_of(engine, "SELECT project_id, starts_at, ends_at FROM day_segments WHERE ends_at < '2026-03-12'"):
        assert packing.pack(engine, packing.Day(*row))
    assert drawn == read_packs(engine), "as if packed from the rows"

    with engine.begin() as connection:
        plans = [make_plan(connection, Wish(1_000, 2, seed, (70,), last_day, add=True)) for seed in (1, 8, 9)]
    with filling.Workers(config, config.database_url, 2) as workers:
        workers.fill([task for plan in plans for task in plan.tasks()], lambda events: None)
    events = read_events(engine)
    assert len(events) == 12_000
    zones = {70: "Asia/Kathmandu"}
    assert stored_sessions(engine, [70]) == recount_sessions(events)
    check_rows(stored_daily(engine, [70]), recount_summaries(events, zones)[0])
    for length in ("week", "month"):
        check_rows(stored_spans(engine, [70], length), recount_spans(events, zones, length))
    assert not read_packs(engine), "what was packed is no longer all"


def check_rows(stored: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    """Compare summary rows; visitors beyond some hundred are estimates, which merging changes a little."""
    rows = forgive(stored, wanted)
    assert {key: row[:5] for key, row in rows.items()} == {key: row[:5] for key, row in wanted.items()}
    assert {key: row[5] for key, row in rows.items()} == pytest.approx(
        {key: row[5] for key, row in wanted.items()}, rel=0.06, abs=1
    )


def read_packs(engine: Engine) -> list[list[Any]]:
    """Return the visits of each packed day with their events, the first pageview first."""
    names = (*VISIT_DIMENSIONS, *EVENT_DIMENSIONS)
    days = []
    with engine.begin() as connection:
        span = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC)
        packs = segments.find(segments.plain(connection), 70, *span)
        for pack in packs:
            (found,) = segments.load(segments.plain(connection), 70, [pack._replace(loose=[0])], names)
            assert found.session_keys is not None
            values = {
                name: [column.values[code] for code in column.codes.tolist()]
                for name, column in found.dimensions.items()
            }
            hits = list(zip(*(values[name] for name in EVENT_DIMENSIONS), strict=True))
            numbers = (*found.figures, found.visitors, found.session_keys)
            rows = zip(*(each.tolist() for each in numbers), strict=True)
            visits, start = [], 0
            for number, (*figures, held, enters, visitor, key) in enumerate(rows):
                facts = [values[name][number] for name in VISIT_DIMENSIONS]
                first, *others = hits[start : start + held]
                visits.append((figures, held, enters, visitor, key, facts, first, sorted(others, key=str)))
                start += held
            assert start == len(hits) == pack.hits
            days.append(visits)
    return days


def test_what_can_not_be_is_refused(engine: Engine, config: Config, tmp_path: Path) -> None:
    with engine.begin() as connection:
        with pytest.raises(click.ClickException, match="no event may lie in the future"):
            make_plan(connection, Wish(1_000, 1, 1, (), datetime.now(UTC).date() + timedelta(days=1)))
        plan = make_plan(connection, Wish(10**15, 90, 1))
    with pytest.raises(click.ClickException, match=r"needs about [\d,.]+ GB; .* has [\d,.]+ GB left"):
        check_disk(plan, list(plan.tasks()), replace(config, database_url=None, data_dir=tmp_path))
