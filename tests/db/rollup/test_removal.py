"""A deleted project leaves nothing behind, and nothing of others goes with it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse.rollup.fold import fold_once
from pulse.rollup.heads import make_missing
from pulse.rollup.packing import Day, pack
from pulse.rollup.removal import remove_deleted
from pulse.rollup.spans import add_up
from pulse.storage.projects import create_key, create_project, delete_project
from tests.db.rollup.conftest import commit_batch, make_event

PAGE = {"type": "pageview", "url": "https://example.com/a"}
TABLES = (
    "events", "sessions", "event_ids", "summary_daily", "summary_hourly", "summary_live",
    "summary_weekly", "summary_monthly", "summary_heads", "day_segments",
)  # fmt: skip


def count(engine: Engine, project_id: int) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table: connection.scalar(text(f"SELECT count(*) FROM {table} WHERE project_id = {project_id}"))
            for table in TABLES
        }


def test_a_deleted_projects_data_is_removed_and_no_other(
    client: FlaskClient, ingest: Callable[..., TestResponse], engine: Engine, admin_key: str
) -> None:
    with engine.begin() as connection:
        other = create_project(connection, "other").id
        _, key = create_key(connection, other, "w", ["ingest"])
    chosen = "00000000-0000-4000-8000-000000000001"
    for sender in (key, "test_api_key"):
        client.post("/api/v1/track/event", json={**PAGE, "event_id": chosen}, headers={"X-API-Key": sender})
    fold_once(engine)
    assert add_up(engine, datetime.now(UTC) + timedelta(days=60)) == 4
    assert make_missing(engine, datetime.now(UTC) + timedelta(days=60)) == 6
    for project_id in (1, other):
        assert pack(engine, Day(project_id, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)))
    kept = count(engine, 1)
    assert all(kept.values()) and all(count(engine, other).values())
    assert client.delete(f"/api/v1/projects/{other}", headers={"X-API-Key": admin_key}).status_code == 200
    assert remove_deleted(engine) == 1
    assert not any(count(engine, other).values())
    assert count(engine, 1) == kept
    assert remove_deleted(engine) == 0


def test_what_comes_late_is_removed_as_well(engine: Engine) -> None:
    with engine.begin() as connection:
        gone, other = create_project(connection, "gone").id, create_project(connection, "other").id
        delete_project(connection, gone)
    assert remove_deleted(engine) == 1
    now = datetime.now(UTC)
    commit_batch(engine, [make_event(gone, now), make_event(other, now)])  # as the spool replays it
    fold_once(engine)
    assert remove_deleted(engine) == 1
    assert not any(count(engine, gone).values())
    assert count(engine, other)["events"] == 1
