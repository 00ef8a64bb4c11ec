"""The tracking endpoints as a client meets them."""

import gzip
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse.ingest.rates import Rates
from pulse.storage.projects import create_key, create_project

KEY = {"X-API-Key": "test_api_key"}
EVENT = "/api/v1/track/event"
BATCH = "/api/v1/track/batch"
PAGE = {"type": "pageview", "url": "https://example.com/a"}
Send = Callable[..., TestResponse]


def stored(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT * FROM events ORDER BY occurred_at, id"))
        return [dict(row) for row in found.mappings()]


def test_an_answered_event_is_in_the_table(ingest: Send, engine: Engine) -> None:
    answer = ingest(**PAGE, custom_data={"plan": "pro"})
    assert answer.status_code == 200
    assert answer.json is not None
    (row,) = stored(engine)
    assert str(row["id"]) == answer.json["data"]["eventId"]
    assert (row["project_id"], row["path"], row["custom_data"]) == (1, "/a", {"plan": "pro"})


def test_nothing_that_identifies_a_person_is_stored(client: FlaskClient, engine: Engine) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    client.post(
        EVENT, json=PAGE, headers={**KEY, "User-Agent": agent}, environ_overrides={"REMOTE_ADDR": "203.0.113.77"}
    )
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        for table in tables.all():
            for row in connection.execute(text(f"SELECT t::text FROM {table} t")).scalars():
                assert "203.0.113.77" not in row and "Gecko" not in row, table


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/json"])
def test_beacons_and_json_are_both_taken(client: FlaskClient, engine: Engine, content_type: str) -> None:
    answer = client.post(f"{EVENT}?api_key=test_api_key", data=json.dumps(PAGE), content_type=content_type)
    assert answer.status_code == 200 and len(stored(engine)) == 1


def test_gzip_bodies_of_several_members_are_unpacked(client: FlaskClient) -> None:
    body = json.dumps({"events": [PAGE] * 100}).encode()
    headers = {**KEY, "Content-Encoding": "gzip"}

    def send(*parts: bytes) -> int:
        packed = b"".join(map(gzip.compress, parts))
        return client.post(BATCH, data=packed, content_type="application/json", headers=headers).status_code

    assert send(body[:700], body[700:], b"") == 200
    assert send(*[b" " * 10_000] * 90) == 413
    assert send(body, *[b""] * 100) == 400


def test_gzip_bodies_are_unpacked(client: FlaskClient, engine: Engine) -> None:
    body = gzip.compress(json.dumps({"events": [PAGE] * 100}).encode())
    answer = client.post(BATCH, data=body, content_type="application/json", headers={**KEY, "Content-Encoding": "gzip"})
    assert answer.status_code == 200 and len(stored(engine)) == 100


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"[1]", {}, 400),
        (b'{"type": ', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"x" * 600_000, {}, 413),
        (gzip.compress(b" " * 600_000, mtime=0), {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}", mtime=0)[:-9], {"Content-Encoding": "gzip"}, 400),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (b"{}", {"Content-Type": "application/xml"}, 415),
        (b"{}", {}, 422),
        (b'{"type": "pageview", "url": 5}', {}, 422),
        (b'{"type": "pageview\\u0000", "url": "https://a.b/"}', {}, 422),
        (b'{"type": "a", "timestamp": "9999-01-01T00:00:00Z"}', {}, 422),
    ],
)
def test_bad_bodies_get_one_clear_error(
    client: FlaskClient, engine: Engine, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post(EVENT, data=body, headers={"Content-Type": "application/json", **KEY, **headers})
    assert answer.status_code == status
    assert answer.json is not None and answer.json["success"] is False and answer.json["message"]
    if status == 422:
        assert answer.json["details"][0]["field"]
    assert stored(engine) == []


def test_the_good_events_of_a_mixed_batch_are_stored(client: FlaskClient, engine: Engine) -> None:
    answer = client.post(BATCH, json={"events": [PAGE, {"type": 3}, {**PAGE, "screen_width": -1}, PAGE]}, headers=KEY)
    assert answer.status_code == 200 and answer.json is not None
    data = answer.json["data"]
    assert (data["accepted"], data["rejected"]) == (2, 2)
    assert [(e["index"], e["field"]) for e in data["errors"]] == [(1, "type"), (2, "screen_width")]
    assert {str(row["id"]) for row in stored(engine)} == set(data["eventIds"])


def test_a_batch_without_a_good_event_is_422(client: FlaskClient) -> None:
    answer = client.post(BATCH, json={"events": [{"type": 3}]}, headers=KEY)
    assert answer.status_code == 422 and answer.json is not None
    assert answer.json["details"][0]["field"] == "events[0].type"


def test_more_than_a_hundred_events_are_413(client: FlaskClient, engine: Engine) -> None:
    answer = client.post(BATCH, json={"events": [PAGE] * 101}, headers=KEY)
    assert answer.status_code == 413 and stored(engine) == []


def test_keys_are_asked_for_and_scoped(client: FlaskClient, engine: Engine) -> None:
    with engine.begin() as connection:
        other = create_project(connection, "other")
        _, read_only = create_key(connection, other.id, "r", ["read"])
    assert client.post(EVENT, json=PAGE).status_code == 401
    assert client.post(EVENT, json=PAGE, headers={"X-API-Key": "wrong"}).status_code == 401
    assert client.post(EVENT, json=PAGE, headers={"X-API-Key": read_only}).status_code == 403
    assert client.post(EVENT, json=PAGE, headers={"Authorization": "Bearer test_api_key"}).status_code == 200


def test_bots_are_answered_and_counted_but_not_stored(client: FlaskClient, app: Flask, engine: Engine) -> None:
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    assert client.post(EVENT, json=PAGE, headers={**KEY, "User-Agent": agent}).status_code == 200
    app.extensions["pulse"].writer.close()
    assert stored(engine) == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT reason, events FROM ingest_drops")).all() == [("bot", 1)]


def test_a_preflight_is_answered_for_any_origin(client: FlaskClient) -> None:
    answer = client.options(EVENT, headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]


def test_one_id_is_stored_once_whenever_and_however_it_comes(client: FlaskClient, engine: Engine) -> None:
    chosen = str(uuid4())
    early = (datetime.now(UTC) - timedelta(days=6)).isoformat()
    events = [{**PAGE, "event_id": chosen}, {**PAGE, "eventId": chosen.upper(), "timestamp": early}]
    assert client.post(BATCH, json={"events": events}, headers=KEY).status_code == 200
    again = client.post(EVENT, json=events[1], headers=KEY)
    assert again.status_code == 200 and again.json == {"success": True, "data": {"eventId": chosen}}
    assert len(stored(engine)) == 1


def test_of_events_that_share_an_id_the_first_is_stored(client: FlaskClient, engine: Engine) -> None:
    chosen = [str(uuid4()) for _ in range(5)]
    events = [{**PAGE, "url": f"https://e.com/{n}/{i}", "event_id": i} for n in range(20) for i in chosen]
    answer = client.post(BATCH, json={"events": events}, headers=KEY).json
    assert answer is not None and answer["data"]["accepted"] == 100
    assert sorted(row["path"] for row in stored(engine)) == sorted(f"/0/{i}" for i in chosen)


def test_one_id_sent_by_many_at_once_is_stored_once(app: Flask, engine: Engine) -> None:
    ids = [str(uuid4()) for _ in range(20)]
    statuses: list[int] = []

    def send() -> None:
        answer = app.test_client().post(BATCH, json={"events": [{**PAGE, "event_id": i} for i in ids]}, headers=KEY)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert sorted(str(row["id"]) for row in stored(engine)) == sorted(ids)


def test_the_same_id_in_two_projects_is_two_events(client: FlaskClient, engine: Engine) -> None:
    with engine.begin() as connection:
        _, other = create_key(connection, create_project(connection, "other").id, "w", ["ingest"])
    event = {**PAGE, "event_id": str(uuid4())}
    for key in ("test_api_key", other):
        assert client.post(EVENT, json=event, headers={"X-API-Key": key}).status_code == 200
    assert {row["project_id"] for row in stored(engine)} == {1, 2}


def test_a_key_over_its_rate_is_refused_and_others_are_not(app: Flask, client: FlaskClient, engine: Engine) -> None:
    with engine.begin() as connection:
        _, other = create_key(connection, create_project(connection, "other").id, "w", ["ingest"])
    app.extensions["pulse"].rates = Rates(10)
    assert client.post(BATCH, json={"events": [PAGE] * 100}, headers=KEY).status_code == 200
    for url, body in ((EVENT, PAGE), (BATCH, {"events": [PAGE]})):
        refused = client.post(url, json=body, headers=KEY)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json is not None and refused.json["error"] == "RATE_LIMITED"
        assert refused.headers["Access-Control-Allow-Origin"] == "*" and refused.headers["X-Request-Id"]
    assert client.post(EVENT, json=PAGE, headers={"X-API-Key": other}).status_code == 200
    assert len(stored(engine)) == 101
