"""Rebuilds and partitions through HTTP."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse.reports.goals import PageGoal, create_goal, list_goals
from pulse.rollup.fold import fold_once
from pulse.rollup.goals import count_all
from pulse.rollup.requests import run_requests
from pulse.storage.projects import DEVELOPMENT_KEY, create_project
from pulse.storage.schema import wanted_partitions

TODAY = datetime.now(UTC).date()


@pytest.fixture
def ask(client: FlaskClient, admin_key: str) -> Callable[..., Any]:
    """Call an endpoint as an administrator; return its data, or the whole error."""

    def call(method: str, path: str, body: object = None, expected: int = 200) -> Any:
        headers = {"X-API-Key": admin_key}
        answer = client.open(f"/api/v1{path}", method=method, json=body, headers=headers)
        assert answer.status_code == expected, answer.text
        assert answer.json is not None
        return answer.json["data"] if expected < 300 else answer.json

    return call


Ask = Callable[..., Any]


def test_a_rebuild_mends_the_days_asked_for(ask: Ask, ingest: Callable[..., TestResponse], engine: Engine) -> None:
    assert ingest(type="pageview", url="https://shop.example/a").status_code == 200
    while fold_once(engine).batches:
        pass
    with engine.begin() as connection:
        create_goal(connection, 1, PageGoal(name="Page", path="/a"))
    count_all(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE summary_daily SET pageviews = 99"))
    days = {"startDate": str(TODAY - timedelta(days=1)), "endDate": str(TODAY)}
    [wish] = ask("POST", "/aggregation/daily", {"projectId": 1, **days}, 202)
    assert (wish["projectId"], wish["status"], wish["startDate"]) == (1, "waiting", days["startDate"])
    # The same wish once more is the same rebuild.
    assert ask("POST", "/aggregation/daily", {"projectId": 1, **days}, 202) == [wish]
    with engine.begin() as connection:
        assert list_goals(connection, 1)[0].status == "counting"
    assert run_requests(engine) == 1
    [done] = ask("GET", "/aggregation/daily")
    assert (done["id"], done["status"], done["events"]) == (wish["id"], "done", 1)
    with engine.connect() as connection:
        assert set(connection.execute(text("SELECT pageviews FROM summary_daily")).scalars()) == {0, 1}


def test_every_project_by_its_own_yesterday(ask: Ask, engine: Engine) -> None:
    with engine.begin() as connection:
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            create_project(connection, zone, zone)
    wishes = ask("POST", "/aggregation/daily/all", {}, 202)
    assert len(wishes) == 3
    assert all(wish["startDate"] == wish["endDate"] for wish in wishes)
    # Those two zones are 25 hours apart: their days are never the same.
    assert len({wish["startDate"] for wish in wishes}) >= 2
    assert run_requests(engine) == 3


def test_a_rebuild_that_fails_says_why_and_lets_the_next_one_run(ask: Ask, engine: Engine) -> None:
    day = {"startDate": "2026-01-01", "endDate": "2026-01-01"}
    ask("POST", "/aggregation/daily", {"projectId": 1, **day}, 202)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE summary_hourly RENAME TO away"))
        # The day must be one whose events are kept, or there is nothing to do.
        bounds = "FROM ('2025-12-01') TO ('2026-02-01')"
        connection.execute(text(f"CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES {bounds}"))
    assert run_requests(engine) == 1
    [failed] = ask("GET", "/aggregation/daily")
    assert failed["status"] == "failed" and "summary_hourly" in failed["failure"]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO summary_hourly"))
    ask("POST", "/aggregation/daily", {"projectId": 1, **day}, 202)
    assert run_requests(engine) == 1
    assert [wish["status"] for wish in ask("GET", "/aggregation/daily")] == ["done", "failed"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "projectId"), ({"projectId": 0}, 422, "projectId"), ({"projectId": 2**31}, 422, "projectId"),
        ({"projectId": 1, "startDate": "2026-02-30"}, 422, "startDate"),
        ({"projectId": 1, "startDate": "2026-02-03", "endDate": "2026-02-01"}, 422, "endDate"),
        ({"projectId": 7}, 404, None),
    ],
)  # fmt: skip
def test_bad_wishes(ask: Ask, app: object, body: dict[str, Any], status: int, field: str | None) -> None:
    answer = ask("POST", "/aggregation/daily", body, status)
    assert [detail["field"] for detail in answer.get("details", [])] == ([field] if field else [])


def test_partitions_are_listed_with_their_sizes(ask: Ask) -> None:
    rows = ask("GET", "/partitions/list")
    assert {(row["name"], row["table"]) for row in rows} == {(p.name, p.parent) for p in wanted_partitions(TODAY)}
    assert all(row["sizeBytes"] > 0 and row["startDate"] < row["endDate"] for row in rows)


def test_a_missing_partition_is_seen_and_made(ask: Ask, engine: Engine) -> None:
    healthy = ask("GET", "/partitions/health")
    assert (healthy["healthy"], healthy["missing"], healthy["problems"]) == (True, [], [])
    assert date.fromisoformat(healthy["readyUntil"]) > TODAY + timedelta(days=60)
    [today] = [p for p in wanted_partitions(TODAY) if p.parent == "events" and p.starts_on <= TODAY < p.ends_on]
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {today.name}")
    ill = ask("GET", "/partitions/health")
    assert (ill["healthy"], ill["missing"], ill["readyUntil"]) == (False, [today.name], None)
    assert today.name in ill["problems"][0] and "today" in ill["problems"][0]
    assert ask("POST", "/partitions/create") == {"created": [today.name]}
    assert ask("POST", "/partitions/create") == {"created": []}
    assert ask("GET", "/partitions/health")["healthy"]


def test_analyze(ask: Ask) -> None:
    [name] = [p.name for p in wanted_partitions(TODAY) if p.parent == "sessions" and p.starts_on <= TODAY < p.ends_on]
    assert [row["name"] for row in ask("POST", "/partitions/analyze", {"name": name})] == [name]
    assert name in [row["name"] for row in ask("POST", "/partitions/analyze", {"table": "sessions"})]
    assert len(ask("POST", "/partitions/analyze", {})) >= 3
    ask("POST", "/partitions/analyze", {"name": "users"}, 404)
    ask("POST", "/partitions/analyze", {"name": "x; DROP TABLE users"}, 404)
    assert ask("POST", "/partitions/analyze", {"table": "users"}, 422)["details"][0]["field"] == "table"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/aggregation/daily"), ("POST", "/aggregation/daily/all"), ("GET", "/aggregation/daily"),
        ("GET", "/partitions/list"), ("GET", "/partitions/health"), ("POST", "/partitions/create"),
        ("POST", "/partitions/analyze"),
    ],
)  # fmt: skip
def test_administrators_only(client: FlaskClient, method: str, path: str) -> None:
    assert client.open(f"/api/v1{path}", method=method, json={}).status_code == 401
    headers = {"X-API-Key": DEVELOPMENT_KEY}
    assert client.open(f"/api/v1{path}", method=method, json={}, headers=headers).status_code == 403
