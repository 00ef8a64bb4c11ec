"""Exports through HTTP: their heads, their ends, and what happens when they break off."""

import csv
import http.client
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse.config import Config
from pulse.rollup.fold import fold_once
from pulse.storage.projects import DEVELOPMENT_KEY
from pulse.web.exports import MAX_EXPORTS
from tests.db.rollup.conftest import commit_batch, cover, make_event

URL = "/api/v1/projects/1"
KEY = {"X-API-Key": DEVELOPMENT_KEY}
ROOT = Path(__file__).resolve().parents[2]
DAYS = "startDate=2026-01-01&endDate=2026-01-31"
KINDS = ("analytics", "events", "campaigns")


def fill(engine: Engine, events: int) -> None:
    """Store one event, and copies of it a second apart."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    cover(engine, at, at + timedelta(days=30))
    commit_batch(engine, [make_event(1, at, utm_campaign="=spring")])
    columns = "project_id, visitor, session_key, client_session, event_type, channel, device, path, batch_id"
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO events (occurred_at, id, {columns}) SELECT occurred_at + n * interval '1 second',"
                f" gen_random_uuid(), {columns} FROM events, generate_series(1, :more) n"
            ),
            {"more": events - 1},
        )


@pytest.mark.parametrize(("kind", "rows"), [("analytics", 31), ("events", 3), ("campaigns", 1)])
def test_csv_and_json_hold_the_same(client: FlaskClient, engine: Engine, kind: str, rows: int) -> None:
    fill(engine, 3)
    while fold_once(engine).batches:
        pass
    as_csv = client.get(f"{URL}/{kind}/export?{DAYS}", headers=KEY)
    as_json = client.get(f"{URL}/{kind}/export?{DAYS}&format=json", headers=KEY)
    assert (as_csv.status_code, as_json.status_code) == (200, 200)
    assert as_csv.headers["Content-Type"].startswith("text/csv; charset=utf-8")
    assert as_json.headers["Content-Type"] == "application/json"
    name = f"{kind}-1-2026-01-01-2026-01-31"
    assert as_csv.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    assert as_json.headers["Content-Disposition"] == f'attachment; filename="{name}.json"'
    assert as_json.json is not None and as_json.json["success"] is True
    found = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    assert len(found) == len(as_json.json["data"]) == rows
    assert list(found[0]) == list(as_json.json["data"][0])
    if kind == "campaigns":
        assert (found[0]["campaign"], as_json.json["data"][0]["campaign"]) == ("'=spring", "=spring")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/events/export?format=xml", 422, "format"), ("/events/export?startDate=x", 422, "startDate"),
        ("/analytics/export?endDate=2026-02-30", 422, "endDate"), ("/events/export?country=Germany", 422, "country"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(client: FlaskClient, path: str, status: int, field: str) -> None:
    answer = client.get(URL + path, headers=KEY)
    assert answer.status_code == status
    assert [detail["field"] for detail in answer.json["details"]] == [field]  # type: ignore[index]


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_download(client: FlaskClient, admin_key: str, kind: str) -> None:
    assert client.get(f"{URL}/{kind}/export").status_code == 401
    assert client.get(f"/api/v1/projects/2/{kind}/export", headers=KEY).status_code == 403
    for number in (2, 2**31):
        answer = client.get(f"/api/v1/projects/{number}/{kind}/export", headers={"X-API-Key": admin_key})
        assert answer.status_code == 404


def test_a_slot_comes_back_however_an_export_ends(client: FlaskClient, app: Flask, engine: Engine) -> None:
    fill(engine, 2000)
    path = f"{URL}/events/export?{DAYS}"
    for _ in range(MAX_EXPORTS + 1):
        with client.head(path, headers=KEY) as head:
            assert head.status_code == 200
        abandoned = client.get(path, headers=KEY, buffered=False)
        next(iter(abandoned.response))
        abandoned.close()
        assert client.get(path, headers=KEY).status_code == 200
    held = [client.get(path, headers=KEY, buffered=False) for _ in range(MAX_EXPORTS)]
    refused = client.get(path, headers=KEY)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    held.pop().close()
    assert client.get(path, headers=KEY).status_code == 200
    for answer in held:
        answer.close()
    assert app.extensions["pulse"].database.primary.pool.checkedout() == 0


def test_a_failure_before_the_first_byte_is_an_answer(client: FlaskClient, engine: Engine) -> None:
    fill(engine, 1)
    with engine.begin() as other:
        other.execute(text("LOCK TABLE events"))
        client.get(f"{URL}/realtime", headers=KEY)  # a connection is in the pool
        with client.application.extensions["pulse"].database.primary.connect() as connection:
            connection.execute(text("SET statement_timeout = 100"))
            connection.commit()
        answer = client.get(f"{URL}/events/export?{DAYS}", headers=KEY)
        other.rollback()
    assert answer.status_code == 503
    assert answer.json is not None and answer.json["success"] is False


@pytest.fixture
def server_port(config: Config, app: Flask, tmp_path: Path) -> Iterator[int]:
    """A gunicorn of our settings on the test's database; `app` has made project 1 and its key."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "PULSE_ENV": "test", "DATABASE_URL": config.database_url or "", "PORT": str(port), "WEB_CONCURRENCY": "1",
        "PULSE_DATA_DIR": str(tmp_path / "served"), "SECRET_KEY": "test-secret-key-0123456789",
    }  # fmt: skip
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app"]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_export_that_breaks_off_does_not_look_whole(server_port: int, engine: Engine, form: str) -> None:
    fill(engine, 60_000)
    with closing(http.client.HTTPConnection("127.0.0.1", server_port, timeout=30)) as browser:
        browser.request("GET", f"{URL}/events/export?{DAYS}&format={form}", headers=KEY)
        answer = browser.getresponse()
        assert answer.status == 200
        assert answer.read(1000)
        stop = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND query LIKE 'FETCH%'")  # fmt: skip
        with engine.connect() as connection:
            assert connection.execute(stop).scalars().all() == [True]
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()


def test_a_whole_export_ends_well(server_port: int, engine: Engine) -> None:
    fill(engine, 20_000)
    with closing(http.client.HTTPConnection("127.0.0.1", server_port, timeout=30)) as browser:
        browser.request("GET", f"{URL}/events/export?{DAYS}", headers=KEY)
        assert browser.getresponse().read().count(b"\r\n") == 20_001
        browser.request("GET", f"{URL}/realtime", headers=KEY)  # the connection goes on
        assert browser.getresponse().status == 200


def test_tracked_events_come_out_again(client: FlaskClient, ingest: Callable[..., TestResponse]) -> None:
    assert ingest(type="pageview", url="https://shop.example/a", custom_data={"n": 1}).status_code == 200
    [row] = client.get(f"{URL}/events/export?format=json", headers=KEY).json["data"]  # type: ignore[index]
    assert (row["path"], row["customData"]) == ("/a", {"n": 1})
