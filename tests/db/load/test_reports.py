"""What `make bench-reports` asks of PostgreSQL and DuckDB is answered."""

import contextlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from pulse.config import Config
from pulse.storage.projects import create_key
from tests.db.rollup.conftest import commit_batch, make_event, make_project
from tests.load.report_costs import application, measure_sizes
from tests.load.report_requests import questions
from tests.load.report_rivals import Duck, Span, measure_sql

NOW = datetime.now(UTC)


def test_statements_are_explained_and_others_answer_too(engine: Engine, config: Config, tmp_path: Path) -> None:
    project_id = make_project(engine)
    commit_batch(engine, [make_event(project_id, NOW, visitor=n) for n in range(50)])
    with engine.begin() as connection:
        _, key = create_key(connection, project_id, "bench", ["read"])
    assert config.database_url is not None
    with application(config.database_url, key, project_id, tmp_path) as app:
        costs = {found.report: app.explain(found) for found in questions(NOW.date(), 7, with_filters=False)}
        sizes = measure_sizes(app.engine, "50")
    assert [cost.name for cost in costs["analytics"]][-2:] == ["overview.totals", "heads.read"]
    assert costs["events"][0].rows == 50
    assert costs["events"][0].buffers > 0
    assert "events_by_batch" not in costs["events"][0].plan and "events_" in costs["events"][0].plan
    assert sizes["disk: events @ 50"] > 100

    url = make_url(config.database_url)
    dsn = {"host": str(url.query["host"]), "user": "pulse", "dbname": str(url.database)}
    span = Span(project_id, "UTC", datetime(2020, 1, 1, tzinfo=UTC), datetime.combine(date.max, NOW.time(), UTC))
    took_ms, stopped = measure_sql(dsn, span, 60)
    assert took_ms > 0 and not stopped
    copied: list[str] = []
    with contextlib.closing(Duck(tmp_path / "events.duckdb", dsn, 1, copied.append)) as duck:
        assert any("events_" in text for text in copied)
        for exact in (True, False):
            took_ms, stopped = duck.measure(span, 60, exact=exact)
            assert took_ms > 0 and not stopped
        took_ms, stopped = duck.measure(span, 1e-9, exact=True)
        assert took_ms == pytest.approx(1e-6) and stopped
