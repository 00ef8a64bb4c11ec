"""An answer from the cache is sent again for a moment, and only to who may have it and as long as it is right."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from pulse.cache import cache
from pulse.errors import Unavailable
from pulse.monitor import recorder
from pulse.storage.projects import DEVELOPMENT_KEY, create_key, create_user, list_keys, revoke_key
from pulse.web import near
from pulse.web.http import request_id
from tests.db.rollup.conftest import commit_batch, make_event
from tests.http.test_auth import EMAIL, PASSWORD, log_in

KEY = {"X-API-Key": DEVELOPMENT_KEY}
URL = "/api/v1/projects/1/analytics?startDate=2026-01-01&endDate=2026-01-31"


@pytest.fixture
def asked(client: FlaskClient, app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that Flask was asked for, of an application whose answers may be sent again for an hour."""
    monkeypatch.setattr(near, "NEAR_S", 3600.0)
    commit_batch(engine, [make_event(1, datetime.now(UTC))])
    paths: list[str] = []
    inner = app.wsgi_app._rest._rest  # type: ignore[attr-defined]

    def note(environ: dict[str, Any], start_response: Any) -> Any:
        paths.append(environ["PATH_INFO"])
        return inner(environ, start_response)

    monkeypatch.setattr(app.wsgi_app._rest, "_rest", note)  # type: ignore[attr-defined]
    yield paths


def states(client: FlaskClient, times: int, **headers: str) -> list[str]:
    answers = [client.get(URL, headers={**KEY, **headers}) for _ in range(times)]
    assert len({answer.data for answer in answers}) == 1
    return [answer.headers["X-Cache"] for answer in answers]


def test_what_the_cache_had_is_sent_again_and_counted(client: FlaskClient, asked: list[str]) -> None:
    hits = cache.counters()["analytics"].hits if "analytics" in cache.counters() else 0
    assert states(client, 5) == ["MISS", "HIT", "HIT", "HIT", "HIT"]
    assert len(asked) == 2
    assert cache.counters()["analytics"].hits == hits + 4
    name = "request/GET /api/v1/projects/<int:project_id>/analytics"
    assert recorder.recorder.snapshot().histograms[name].count == 5


def test_who_takes_or_holds_something_else_is_asked_about(client: FlaskClient, asked: list[str]) -> None:
    states(client, 3)
    packed = [client.get(URL, headers={**KEY, "Accept-Encoding": "gzip"}) for _ in range(2)]
    assert [answer.headers.get("Content-Encoding") for answer in packed] == ["gzip", "gzip"]
    held = [client.get(URL, headers={**KEY, "If-None-Match": packed[0].headers["ETag"]}) for _ in range(3)]
    assert [(answer.status_code, answer.data) for answer in held] == 3 * [(304, b"")]
    named = client.get(URL, headers={**KEY, "X-Request-Id": "abc"})
    assert named.headers["X-Request-Id"] == "abc"
    assert len(asked) == 2 + 1 + 1 + 1


def test_it_is_nobody_elses(client: FlaskClient, asked: list[str], engine: Engine) -> None:
    states(client, 3)
    with engine.begin() as connection:
        _, ingest = create_key(connection, 1, "ingest", ["ingest"])
    assert client.get(URL, headers={"X-API-Key": ingest}).status_code == 403
    assert client.get(URL, headers={"X-API-Key": "no key"}).status_code == 401
    assert client.get(URL, environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 401
    assert client.post(URL, headers=KEY).status_code == 405


def test_a_key_that_is_revoked_gets_nothing(
    app: Flask, client: FlaskClient, asked: list[str], engine: Engine
) -> None:
    states(client, 3)
    with engine.begin() as connection:
        revoke_key(connection, 1, list_keys(connection, 1)[0].id)
    app.extensions["pulse"].keys.refresh()  # as happens by itself within a second
    assert client.get(URL, headers=KEY).status_code == 401


def test_a_key_that_is_revoked_meanwhile_gets_nothing_more(
    app: Flask, client: FlaskClient, asked: list[str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(client, 1)
    rest = app.wsgi_app._rest._rest  # type: ignore[attr-defined]

    def revoke(environ: dict[str, Any], start_response: Any) -> Any:
        answer = rest(environ, start_response)
        with engine.begin() as connection:
            revoke_key(connection, 1, list_keys(connection, 1)[0].id)
        app.extensions["pulse"].keys.refresh()  # as another machine's change is noticed
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(app.wsgi_app._rest, "_rest", revoke)  # type: ignore[attr-defined]
        assert client.get(URL, headers=KEY).status_code == 200
    assert client.get(URL, headers=KEY).status_code == 401


def test_an_answer_goes_out_where_its_key_can_no_longer_be_looked_up(
    app: Flask, client: FlaskClient, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states(client, 1)
    rest = app.wsgi_app._rest._rest  # type: ignore[attr-defined]

    def fail(text: str) -> Any:
        raise Unavailable("away")

    with monkeypatch.context() as patched:

        def lose(environ: dict[str, Any], start_response: Any) -> Any:
            answer = rest(environ, start_response)
            patched.setattr(app.extensions["pulse"].keys, "get", fail)
            return answer

        patched.setattr(app.wsgi_app._rest, "_rest", lose)  # type: ignore[attr-defined]
        assert client.get(URL, headers=KEY).status_code == 200
    assert states(client, 2) == ["HIT", "HIT"]


def test_a_login_is_not_handed_on_to_others_with_the_same_key(
    app: Flask, client: FlaskClient, asked: list[str], engine: Engine
) -> None:
    with engine.begin() as connection:
        create_user(connection, EMAIL, PASSWORD)
    person = app.test_client()
    assert log_in(person).status_code == 303
    own = [person.get(URL, headers=KEY).headers for _ in range(3)]
    assert [headers["X-Cache"] for headers in own] == ["MISS", "HIT", "HIT"]
    assert all("pulse_session" in headers["Set-Cookie"] for headers in own)  # it lasts as long as it is used
    answer = client.get(URL, headers=KEY)
    assert (answer.status_code, answer.headers["X-Cache"]) == (200, "HIT")
    assert "Set-Cookie" not in answer.headers


def test_a_request_that_is_in_the_log_has_an_id_of_its_own(app: Flask, client: FlaskClient, asked: list[str]) -> None:
    @app.before_request
    def log_something() -> None:
        request_id()  # as every line does

    ids = {client.get(URL, headers=KEY).headers["X-Request-Id"] for _ in range(4)}
    assert len(ids) == 4


@pytest.mark.parametrize("change", ["forget", "delete", "time"])
def test_it_ends(
    app: Flask, client: FlaskClient, asked: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    states(client, 3)
    before = len(asked)
    if change == "forget":
        app.extensions["pulse"].forget()
    elif change == "delete":
        cache.delete_pattern("analytics:*")
    else:
        monkeypatch.setattr(near, "NEAR_S", -1.0)
        app.wsgi_app._rest._held.clear()  # type: ignore[attr-defined]
    assert states(client, 1) == ["MISS" if change == "delete" else "HIT"]
    assert len(asked) == before + 1
    states(client, 1)
    assert len(asked) == before + (1 if change == "forget" else 2)  # what Flask had from the cache is held again


def test_an_answer_that_is_to_be_renewed_is_not_held_back(client: FlaskClient, asked: list[str]) -> None:
    assert states(client, 1) == ["MISS"]
    entry = cache.wrap_entry("other:1", lambda: 1, ttl=90)
    assert cache.renewed_from(entry) == pytest.approx(entry.stored_at + 60)


def test_what_it_holds_is_bounded(client: FlaskClient, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MAX_BYTES", 3 * near.ENTRY_BYTES + 20_000)
    states(client, 2)
    held = client.application.wsgi_app._rest  # type: ignore[attr-defined]
    for number in range(50):
        client.get(f"{URL}&other={number}", headers=KEY)
        sizes = [sum(map(len, key)) + len(one.body) + near.ENTRY_BYTES for key, one in held._held.items()]
        assert held._bytes == sum(sizes) <= near.MAX_BYTES
    client.get(f"{URL}&other={'x' * near.MAX_BYTES}", headers=KEY)
    assert len(held._held) <= 1
