"""Logging in, staying in, and the doors that open by themselves on a developer's own machine alone."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from pulse.app import create_app
from pulse.config import Config
from pulse.errors import ConfigError
from pulse.storage.projects import create_user, ensure_development_project
from pulse.web.http import MAX_FORM_BYTES

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"
Build = Callable[..., Flask]


@pytest.fixture
def build(config: Config, engine: Engine) -> Iterator[Build]:
    """Make applications with other settings; they are closed at the end."""
    made: list[Flask] = []
    with engine.begin() as connection:
        ensure_development_project(connection)

    def make(**settings: Any) -> Flask:
        made.append(create_app(replace(config, **settings)))
        return made[-1]

    yield make
    for app in made:
        app.extensions["pulse"].writer.close()
        app.extensions["pulse"].database.dispose()


@pytest.fixture
def user(engine: Engine) -> str:
    """A login that exists."""
    with engine.begin() as connection:
        return create_user(connection, EMAIL, PASSWORD).email


@pytest.fixture
def dev(build: Build) -> FlaskClient:
    """A client of a service in development."""
    return build(env="development").test_client()


def csrf_token(page: str) -> str:
    match = re.search(r'csrf[_-]token"[^>]*(?:value|content)="([^"]+)"|data-csrf(?:-token)?="([^"]+)"', page)
    assert match is not None, "the page carries no token"
    return match[1] or match[2]


def log_in(
    client: FlaskClient, password: str = PASSWORD, email: str = EMAIL, target: str = "", **options: Any
) -> TestResponse:
    """Fill in the form as a person does."""
    base = {key: value for key, value in options.items() if key == "base_url"}
    token = csrf_token(client.get("/login", **base).text)
    form = {"email": email, "password": password, "csrf_token": token, "next": target}
    return client.post("/login", data=form, **options)


def error_of(answer: TestResponse, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.is_json and answer.json is not None and answer.json["success"] is False
    return str(answer.json["error"])


def test_without_a_login_the_dashboard_shows_the_way_to_it(client: FlaskClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/")


def test_who_logs_in_sees_the_dashboard_and_the_reports(client: FlaskClient, user: str) -> None:
    answer = log_in(client)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = client.get("/")
    assert page.status_code == 200 and user in page.text
    assert client.get("/api/v1/projects/1/realtime").status_code == 200
    assert client.get("/api/v1/performance").status_code == 200
    assert client.get("/login").headers["Location"] == "/"


def test_the_address_is_taken_in_any_case(client: FlaskClient, user: str) -> None:
    assert log_in(client, email=" ADA@Example.org ").status_code == 303


def test_a_wrong_password_is_told_without_saying_which_part_was_wrong(client: FlaskClient, user: str) -> None:
    wrong = [(EMAIL, "wrong"), (EMAIL, ""), ("nobody@example.org", PASSWORD), ("\0", "\0"), ("x" * 3000, "x" * 3000)]
    for email, password in wrong:
        answer = log_in(client, password, email, "/performance")
        assert answer.status_code == 401 and "The address or the password is wrong." in answer.text
        assert 'value="/performance"' in answer.text  # where the next try leads
        assert client.get("/").status_code == 303


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_is_a_small_body_of_few_fields(client: FlaskClient, path: str) -> None:
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    form = b"email=" + b"x" * MAX_FORM_BYTES
    for body in ({"input_stream": BytesIO(form), "environ_overrides": chunked}, {"data": form}):
        answer = client.post(path, **body)
        assert error_of(answer, 413) == "TOO_LARGE" and "8192 bytes" in answer.text
    assert error_of(client.post(path, data=b"a=1&" * 21), 400) == "BAD_REQUEST"


def test_what_was_typed_comes_back_harmless(client: FlaskClient, user: str) -> None:
    answer = log_in(client, email='"><script>alert(1)</script>')
    assert answer.status_code == 401 and "<script>alert" not in answer.text


def test_the_form_needs_its_token(client: FlaskClient, user: str) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    assert error_of(client.post("/login", data=form), 403) == "FORBIDDEN"
    csrf_token(client.get("/login").text)
    for token in ("", "wrong", "é", "\0"):
        assert error_of(client.post("/login", data={**form, "csrf_token": token}), 403) == "FORBIDDEN"
    assert client.get("/").status_code == 303


def test_a_token_of_before_the_login_is_worth_nothing_after_it(client: FlaskClient, user: str) -> None:
    planted = csrf_token(client.get("/login").text)
    log_in(client)
    assert csrf_token(client.get("/").text) != planted
    answer = client.post("/api/v1/projects", json={"name": "x"}, headers={"X-CSRF-Token": planted})
    assert error_of(answer, 403) == "FORBIDDEN"


def test_the_cookie_can_not_be_read_by_scripts_nor_sent_by_other_sites(client: FlaskClient, user: str) -> None:
    cookie = log_in(client).headers["Set-Cookie"]
    assert cookie.startswith("pulse_session=")
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie and "Expires=" in cookie
    assert "Secure" not in cookie  # plain HTTP outside of production


def test_a_changed_cookie_is_no_login(client: FlaskClient, user: str) -> None:
    log_in(client)
    cookie = client.get_cookie("pulse_session")
    assert cookie is not None
    for value in (cookie.value[:-2], "x" + cookie.value, "", "e30.e30.e30"):
        client.set_cookie("pulse_session", value)
        assert client.get("/").status_code == 303
        assert error_of(client.get("/api/v1/projects"), 401) == "UNAUTHORIZED"


def test_logging_out_ends_it_and_needs_the_token_too(client: FlaskClient, user: str) -> None:
    log_in(client)
    token = csrf_token(client.get("/").text)
    assert error_of(client.post("/logout"), 403) == "FORBIDDEN"
    assert client.get("/").status_code == 200
    answer = client.post("/logout", data={"csrf_token": token})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert client.get("/").status_code == 303


def test_a_copied_cookie_ends_with_the_login(client: FlaskClient, app: Flask, user: str) -> None:
    log_in(client)
    copy = client.get_cookie("pulse_session")
    assert copy is not None
    thief = app.test_client()
    thief.set_cookie("pulse_session", copy.value)
    assert thief.get("/api/v1/projects").status_code == 200
    client.post("/logout", data={"csrf_token": csrf_token(client.get("/").text)})
    assert error_of(thief.get("/api/v1/projects"), 401) == "UNAUTHORIZED"


def test_a_new_password_ends_the_logins_made_with_the_old_one(
    client: FlaskClient, app: Flask, user: str, engine: Engine
) -> None:
    log_in(client)
    with engine.begin() as connection:
        create_user(connection, EMAIL, "another long password")
    app.extensions["pulse"].forget()  # in another process: two seconds
    assert client.get("/").status_code == 303
    assert log_in(client, "another long password").status_code == 303
    assert client.get("/").status_code == 200


def test_who_is_logged_in_may_log_in_again(client: FlaskClient, user: str) -> None:
    log_in(client)
    token = csrf_token(client.get("/").text)
    form = {"email": EMAIL, "password": PASSWORD, "csrf_token": token}
    assert client.post("/login", data=form).status_code == 303


ELSEWHERE = [
    "https://evil.example", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
    "/\t/evil.example", "/\n/evil.example", "javascript:alert(1)", "evil.example", "/a\\b", "http:evil.example", "//[", "http://[::1",
    " //evil.example", "/performance\r\nX-Injected: yes",
]  # fmt: skip


def test_the_login_leads_to_no_other_site(client: FlaskClient, user: str) -> None:
    for number, target in enumerate(ELSEWHERE):
        answer = log_in(client, target=target, environ_overrides={"REMOTE_ADDR": f"198.51.100.{number}"})
        assert (answer.status_code, answer.headers.get("Location")) == (303, "/"), target
        client.delete_cookie("pulse_session")


def test_the_login_leads_back_to_where_one_was(client: FlaskClient, user: str) -> None:
    assert log_in(client, target="/performance?range=1h").headers["Location"] == "/performance?range=1h"


def test_too_many_tries_are_told_to_wait(client: FlaskClient, user: str) -> None:
    for _ in range(5):
        assert log_in(client, "wrong").status_code == 401
    answer = log_in(client)  # even the right password: or guessing would go on
    assert error_of(answer, 429) == "RATE_LIMITED"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    elsewhere = log_in(client, environ_overrides={"REMOTE_ADDR": "198.51.100.7"})
    assert elsewhere.status_code == 303, "others are not shut out"


def test_a_forged_forwarding_header_is_no_way_around_the_limit(client: FlaskClient, user: str) -> None:
    answers = [log_in(client, "wrong", headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]


def test_the_limit_is_shared_through_redis(build: Build, user: str, valkey_url: str) -> None:
    first, second = (build(redis_url=valkey_url).test_client() for _ in range(2))
    for client in (first, second, first, second, first):
        assert log_in(client, "wrong").status_code == 401
    assert log_in(second).status_code == 429


def test_a_login_changes_things_only_with_its_token(client: FlaskClient, user: str) -> None:
    log_in(client)
    token = csrf_token(client.get("/").text)
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": ""}):
        assert error_of(client.post("/api/v1/projects", json={"name": "x"}, headers=headers), 403) == "FORBIDDEN"
        assert client.delete("/api/v1/projects/1", headers=headers).status_code == 403
    assert client.get("/api/v1/projects/1").status_code == 200
    assert client.post("/api/v1/projects", json={"name": "x"}, headers={"X-CSRF-Token": token}).status_code == 201


def test_a_key_beside_the_cookie_needs_no_token(client: FlaskClient, user: str, admin_key: str) -> None:
    log_in(client)
    answer = client.post("/api/v1/projects", json={"name": "x"}, headers={"X-API-Key": admin_key})
    assert answer.status_code == 201


def test_the_key_decides_where_both_are_given(client: FlaskClient, user: str) -> None:
    log_in(client)
    assert client.get("/api/v1/projects/1/analytics", headers={"X-API-Key": "wrong"}).status_code == 401
    assert client.delete("/api/v1/projects/1", headers={"X-API-Key": "test_api_key"}).status_code == 403


def test_who_is_logged_in_is_counted_as_a_visitor_like_everybody(client: FlaskClient, user: str) -> None:
    log_in(client)
    event = {"type": "pageview", "url": "https://example.com/"}
    assert client.post("/api/v1/track/event?api_key=test_api_key", json=event).status_code == 200
    assert client.post("/api/v1/track/batch?api_key=test_api_key", json={"events": [event]}).status_code == 200


def test_the_own_machine_needs_no_login_in_development(dev: FlaskClient) -> None:
    assert dev.get("/").status_code == 200
    for host in ("localhost:3001", "127.0.0.1:3001", "[::1]:3001", "127.0.0.1", "[::1]"):
        assert dev.get("/api/v1/performance", headers={"Host": host}).status_code == 200, host
    assert dev.get("/", environ_overrides={"REMOTE_ADDR": "::1"}).status_code == 200
    own = {"Origin": "http://localhost:3001", "Host": "localhost:3001", "Sec-Fetch-Site": "same-origin"}
    assert dev.post("/api/v1/projects", json={"name": "x"}, headers=own).status_code == 201


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:3001"},
    {"Host": "evil.example:3001"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-Host": "localhost"},
    {"X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"Via": "1.1 proxy"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Port": "443"},
    {"CF-Connecting-IP": "127.0.0.1"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Sec-Fetch-Site": "cross-site"},
]
GUARDED = [("GET", "/performance"), ("POST", "/performance/reset"), ("GET", "/projects"), ("DELETE", "/projects/1")]


def test_anything_foreign_closes_the_door(dev: FlaskClient) -> None:
    for headers in FOREIGN:
        assert dev.get("/", headers=headers).status_code == 303, headers
        for method, path in GUARDED:
            answer = dev.open(f"/api/v1{path}", method=method, headers=headers)
            assert error_of(answer, 401) == "UNAUTHORIZED", headers


def test_another_machine_is_not_let_in(dev: FlaskClient) -> None:
    for address in ("192.168.1.5", "203.0.113.9", "fe80::1", "", "::ffff:192.168.1.5"):
        assert dev.get("/", environ_overrides={"REMOTE_ADDR": address}).status_code == 303, address
        answer = dev.get("/api/v1/performance", environ_overrides={"REMOTE_ADDR": address})
        assert error_of(answer, 401) == "UNAUTHORIZED"


def test_a_bad_key_is_no_better_than_none_on_the_own_machine(dev: FlaskClient) -> None:
    assert error_of(dev.get("/api/v1/performance", headers={"X-API-Key": "wrong"}), 401) == "UNAUTHORIZED"


@pytest.mark.parametrize("env", ["test", "production"])
def test_outside_of_development_nothing_is_open(build: Build, user: str, env: str) -> None:
    client = build(env=env).test_client()
    assert client.get("/").status_code == 303
    for path in ("/performance", "/performance/queries", "/metrics", "/projects", "/projects/1/analytics"):
        assert error_of(client.get(f"/api/v1{path}"), 401) == "UNAUTHORIZED"
    assert client.get("/demo").status_code == 404


def test_the_development_key_is_worth_nothing_in_production(build: Build, user: str) -> None:
    event = {"json": {"type": "pageview", "url": "https://example.com/"}, "headers": {"X-API-Key": "test_api_key"}}
    assert build(env="development").test_client().post("/api/v1/track/event", **event).status_code == 200
    answer = build(env="production").test_client().post("/api/v1/track/event", **event)
    assert error_of(answer, 401) == "UNAUTHORIZED"


def test_production_does_not_start_without_an_administrator(build: Build, user: str, engine: Engine) -> None:
    build(env="production")
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM users")
    with pytest.raises(ConfigError, match="pulse user create"):
        build(env="production")


def test_in_production_the_cookie_travels_over_tls_alone(build: Build, user: str) -> None:
    client = build(env="production").test_client()
    answer = log_in(client, base_url="https://stats.example")
    assert answer.status_code == 303 and "Secure" in answer.headers["Set-Cookie"]
    assert client.get("/", base_url="https://stats.example").status_code == 200


@pytest.mark.parametrize("path", ["/login", "/docs"])
def test_pages_can_not_be_framed_and_run_no_foreign_scripts(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
