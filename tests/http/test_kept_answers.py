"""Answers about past days are kept for long, and dropped when one of these days changes."""

import gzip
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from threading import get_ident
from time import monotonic

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from pulse.app import create_app
from pulse.cache import cache
from pulse.config import Config
from pulse.monitor import nodes
from pulse.rollup.fold import fold_once
from pulse.rollup.goals import count_all
from pulse.rollup.rebuild import rebuild
from pulse.storage import changes
from pulse.storage.embedded import EmbeddedServer
from pulse.storage.projects import DEVELOPMENT_KEY, ensure_development_project, list_keys, revoke_key
from pulse.web import analytics, remembered
from pulse.web.analytics import WARMER
from tests.db.rollup.conftest import commit_batch, make_event
from tests.running import wait_until

KEY = {"X-API-Key": DEVELOPMENT_KEY}
TODAY = datetime.now(UTC).date()
LATE = TODAY - timedelta(days=3)
REPORTS = ["analytics", "campaigns", "campaigns/top", "campaigns/compare"]


def days(first: date, last: date) -> str:
    return f"startDate={first}&endDate={last}"


AROUND = days(LATE - timedelta(days=1), LATE)
BEFORE = days(LATE - timedelta(days=9), LATE - timedelta(days=6))


@pytest.fixture
def reader(app: Flask, client: FlaskClient, engine: Engine) -> Iterator[FlaskClient]:
    """A client whose process has just asked what has changed."""
    write(engine, LATE - timedelta(days=7))
    write(engine, LATE)
    app.extensions["pulse"].forget()
    yield client


def write(engine: Engine, day: date, **fields: object) -> None:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    commit_batch(engine, [make_event(1, at, utm_campaign="spring", **fields)])
    while fold_once(engine).batches:
        pass
    count_all(engine)


def state(client: FlaskClient, report: str, span: str) -> str:
    answer = client.get(f"/api/v1/projects/1/{report}?{span}", headers=KEY)
    assert answer.status_code == 200
    return answer.headers["X-Cache"]


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_event_drops_the_answers_about_its_day_alone(
    app: Flask, reader: FlaskClient, engine: Engine, report: str
) -> None:
    for span in (AROUND, BEFORE):
        assert [state(reader, report, span) for _ in range(2)] == ["MISS", "HIT"]
    write(engine, LATE, visitor=2)
    app.extensions["pulse"].forget()  # as happens by itself after two seconds
    assert [state(reader, report, span) for span in (AROUND, BEFORE)] == ["MISS", "HIT"]
    assert state(reader, report, AROUND) == "HIT"


def test_the_answer_holds_the_late_event(app: Flask, reader: FlaskClient, engine: Engine) -> None:
    def sessions() -> int:
        answer = reader.get(f"/api/v1/projects/1/campaigns?{AROUND}", headers=KEY)
        return int(answer.get_json()["data"]["campaigns"][0]["sessions"])

    assert sessions() == 1
    write(engine, LATE, visitor=2)
    app.extensions["pulse"].forget()
    assert sessions() == 2


def test_a_late_event_drops_the_funnels_of_its_day_alone(app: Flask, reader: FlaskClient, engine: Engine) -> None:
    def ask(first: date, last: date) -> tuple[str, int]:
        wanted = {"steps": [{"type": "page", "value": "/"}] * 2, "startDate": str(first), "endDate": str(last)}
        answer = reader.post("/api/v1/projects/1/goals/funnel", json=wanted, headers=KEY)
        return answer.headers["X-Cache"], answer.get_json()["data"]["steps"][0]["visitors"]

    spans = [(LATE - timedelta(days=1), LATE), (LATE - timedelta(days=9), LATE - timedelta(days=6))]
    assert [ask(*span) for span in spans for _ in range(2)] == [("MISS", 1), ("HIT", 1)] * 2
    write(engine, LATE, visitor=2)
    app.extensions["pulse"].forget()  # as happens by itself after two seconds
    assert [ask(*span) for span in spans] == [("MISS", 2), ("HIT", 1)]


def test_an_event_of_today_drops_nothing(app: Flask, reader: FlaskClient, engine: Engine) -> None:
    assert state(reader, "analytics", AROUND) == "MISS"
    at = datetime.now(UTC)
    if (at + timedelta(minutes=11)).date() > at.date():
        pytest.skip("today is about to be past")
    commit_batch(engine, [make_event(1, at)])
    fold_once(engine)
    app.extensions["pulse"].forget()
    assert state(reader, "analytics", AROUND) == "HIT"


def test_counting_days_anew_drops_them(app: Flask, reader: FlaskClient, engine: Engine) -> None:
    assert state(reader, "analytics", AROUND) == "MISS"
    rebuild(engine, 1, LATE, LATE)
    app.extensions["pulse"].forget()
    assert state(reader, "analytics", AROUND) == "MISS"


def test_a_change_of_goals_drops_campaigns_with_their_conversions(
    app: Flask, reader: FlaskClient, engine: Engine
) -> None:
    def conversions() -> int | None:
        app.extensions["pulse"].forget()
        answer = reader.get(f"/api/v1/projects/1/campaigns?{AROUND}", headers=KEY)
        found: int | None = answer.get_json()["data"]["campaigns"][0]["conversions"]
        return found

    assert conversions() is None
    goal = {"kind": "page", "name": "Any page", "path": "/*"}
    made = reader.post("/api/v1/projects/1/goals", json=goal, headers=KEY).get_json()["data"]["id"]
    assert conversions() == 0
    count_all(engine)
    assert conversions() == 1
    write(engine, LATE, visitor=2)
    assert conversions() == 2
    reader.delete(f"/api/v1/projects/1/goals/{made}", headers=KEY)
    assert conversions() is None


@pytest.mark.parametrize("report", REPORTS)
def test_whoever_holds_the_answer_is_told_so_without_a_statement(
    app: Flask, reader: FlaskClient, report: str
) -> None:
    url = f"/api/v1/projects/1/{report}?{AROUND}"
    tag = reader.get(url, headers=KEY).headers["ETag"]
    seen: list[str] = []
    event.listen(
        app.extensions["pulse"].database.primary, "before_cursor_execute", lambda *args: seen.append(args[2])
    )
    answer = reader.get(url, headers={**KEY, "If-None-Match": tag})
    assert (answer.status_code, answer.data, answer.headers["X-Cache"]) == (304, b"", "HIT")
    assert seen == []


def test_it_is_told_so_without_postgresql(
    config: Config, engine: Engine, server: EmbeddedServer, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "REMEMBER_S", 1.0)
    monkeypatch.setattr(remembered, "REFRESH_EVERY_S", 0.05)
    write(engine, LATE)
    with engine.begin() as connection:
        ensure_development_project(connection)
        name = connection.execute(text("SELECT current_database()")).scalar_one()
    engine.dispose()
    app = create_app(replace(config, redis_url=valkey_url))
    parts, client = app.extensions["pulse"], app.test_client()
    urls = [f"/api/v1/projects/1/{report}?{AROUND}" for report in REPORTS]
    tags = {url: client.get(url, headers=KEY).headers["ETag"] for url in urls}
    asked_by: list[int] = []
    for each in (parts.database.primary, parts.ingest.primary):
        event.listen(each, "before_cursor_execute", lambda *args: asked_by.append(get_ident()))
        event.listen(each, "do_connect", lambda *args: asked_by.append(get_ident()))

    def answers_last() -> None:
        until = monotonic() + 1.2 * remembered.REMEMBER_S
        while monotonic() < until:
            for url, tag in tags.items():
                answer = client.get(url, headers={**KEY, "If-None-Match": tag})
                assert (answer.status_code, answer.headers["X-Cache"]) == (304, "HIT")
                assert client.get(url, headers=KEY).headers["X-Cache"] == "HIT"

    answers_last()
    with closing(psycopg2.connect(host=str(server.socket_dir), user="pulse", dbname="postgres")) as session:
        session.autocommit = True
        cursor = session.cursor()
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    answers_last()
    assert asked_by and get_ident() not in asked_by
    parts.stopping.set()
    nodes.stop()
    parts.writer.close()
    parts.database.dispose()


def test_a_key_revoked_in_another_process_is_noticed(
    app: Flask, client: FlaskClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "REFRESH_EVERY_S", 0.05)
    url = f"/api/v1/projects/1/analytics?{AROUND}"
    assert client.get(url, headers=KEY).status_code == 200
    with engine.begin() as connection:
        (key,) = list_keys(connection, 1)
        revoke_key(connection, 1, key.id)
    wait_until(lambda: client.get(url, headers=KEY).status_code == 401)


def test_a_change_is_known_at_once_to_all_processes_of_the_machine(
    app: Flask, client: FlaskClient, config: Config, admin_key: str
) -> None:
    other = create_app(config)  # with the same data folder
    url, admin = "/api/v1/projects/1", {"X-API-Key": admin_key}
    reader = other.test_client()
    assert reader.get(f"{url}/goals", headers=KEY).get_json()["data"]["goals"] == []
    goal = {"kind": "page", "name": "Any page", "path": "/*"}
    made = client.post(f"{url}/goals", json=goal, headers=KEY).get_json()["data"]
    shown = reader.get(f"{url}/goals", headers=KEY).get_json()["data"]["goals"]
    assert [one["name"] for one in shown] == ["Any page"]
    assert reader.get(f"{url}/goals/{made['id']}", headers=KEY).status_code == 200
    client.delete(f"{url}/goals/{made['id']}", headers=KEY)
    assert reader.get(f"{url}/goals/{made['id']}", headers=KEY).status_code == 404
    (key,) = client.get(f"{url}/api-keys", headers=admin).get_json()["data"]
    client.delete(f"{url}/api-keys/{key['id']}", headers=admin)
    assert reader.get(f"{url}/goals", headers=KEY).status_code == 401
    parts = other.extensions["pulse"]
    parts.stopping.set()
    parts.writer.close()
    parts.database.dispose()


@pytest.mark.parametrize("report", REPORTS)
def test_who_takes_no_gzip_gets_the_same_unpacked(reader: FlaskClient, report: str) -> None:
    url = f"/api/v1/projects/1/{report}?{AROUND}"
    answers = [reader.get(url, headers=headers) for headers in 2 * [KEY, {**KEY, "Accept-Encoding": "gzip"}]]
    plain, packed, plain_kept, packed_kept = answers
    assert plain.data == plain_kept.data and packed.data == packed_kept.data
    if packed.headers.get("Content-Encoding"):
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["ETag"] == f"W/{plain.headers['ETag']}"
        assert "Accept-Encoding" in plain.headers["Vary"]
    else:
        assert packed.data == plain.data
    assert "Content-Encoding" not in plain.headers


def test_an_answer_in_demand_is_renewed_beside_the_requests(
    reader: FlaskClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "OPEN_TTL_S", 3600)
    monkeypatch.setattr(cache, "_limits", replace(cache._limits, renew_share=1.0))
    url = "/api/v1/projects/1/analytics"

    def sessions() -> tuple[str, int]:
        answer = reader.get(url, headers=KEY)
        return answer.headers["X-Cache"], answer.get_json()["data"]["overview"]["sessions"]

    assert sessions() == ("MISS", 2)
    commit_batch(engine, [make_event(1, datetime.now(UTC), visitor=3)])  # today: that alone drops no answer
    fold_once(engine)
    wait_until(lambda: sessions() == ("HIT", 3))


def test_what_was_asked_of_past_days_is_there_for_the_new_day(app: Flask, reader: FlaskClient) -> None:
    yesterday, start_of_day = TODAY - timedelta(days=1), datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    found = app.extensions[WARMER]
    for start, end in ((LATE, yesterday), (LATE, yesterday), (LATE, TODAY)):
        state(reader, "analytics", days(start, end))
    (question,) = found._uses
    assert question[:3] == (1, 3, 1)
    found._uses.clear()
    for _ in range(2):
        found.note(question._replace(limit=20), yesterday)
    assert found.warm(start_of_day + timedelta(hours=1)) == 1
    assert state(reader, "analytics", f"{days(LATE, yesterday)}&limit=20") == "HIT"


def test_old_changes_are_forgotten(engine: Engine) -> None:
    with engine.begin() as connection:
        changes.note(connection, [(1, LATE, LATE), (1, LATE, LATE), (1, TODAY, TODAY)])
        connection.execute(
            text("UPDATE day_changes SET changed_at = now() - interval '49 hours' WHERE first_day = :day"),
            {"day": LATE},
        )
    assert changes.prune(engine) == 1
    with engine.connect() as connection:
        assert [one.first_day for one in changes.read(connection, 1)] == [TODAY]
