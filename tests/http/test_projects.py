"""Projects and keys through the API: who may do what, and what bad input is answered."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from pulse.storage.projects import create_key, create_project

PROJECTS = "/api/v1/projects"
HUGE = ["0", "2147483648", "9223372036854775808", "1" + "0" * 40]


class Caller:
    """A client that presents one key, or none."""

    def __init__(self, client: FlaskClient, key: str | None) -> None:
        self._client = client
        self._headers = {"X-API-Key": key} if key else {}

    def __call__(self, method: str, path: str, body: Any = None) -> TestResponse:
        options = {"json": body} if body is not None else {}
        return self._client.open(PROJECTS + path, method=method, headers=self._headers, **options)


@pytest.fixture
def admin(client: FlaskClient, admin_key: str) -> Caller:
    """An administrator."""
    return Caller(client, admin_key)


@pytest.fixture
def reader(client: FlaskClient, engine: Engine) -> Caller:
    """The holder of a read key of project 1."""
    with engine.begin() as connection:
        return Caller(client, create_key(connection, 1, "reader", ["read"])[1])


@pytest.fixture
def page(client: FlaskClient, engine: Engine) -> Caller:
    """The holder of an ingest key of project 1, as anybody can read it in a page."""
    with engine.begin() as connection:
        return Caller(client, create_key(connection, 1, "page", ["ingest"])[1])


@pytest.fixture
def other_id(client: FlaskClient, engine: Engine) -> int:
    """A second project."""
    with engine.begin() as connection:
        return create_project(connection, "Other").id


def data(answer: TestResponse, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.json is not None and answer.json["success"] is True
    return answer.json["data"]


def fields(answer: TestResponse) -> set[str]:
    """The fields that a refusal names."""
    assert answer.status_code == 422, answer.text
    assert answer.json is not None and answer.json["error"] == "VALIDATION_FAILED"
    return {detail["field"] for detail in answer.json["details"]}


def test_a_project_lives_and_ends(admin: Caller) -> None:
    made = data(admin("POST", "", {"name": "Shop", "timezone": "Asia/Kathmandu", "domain": "shop.example"}), 201)
    assert (made["name"], made["timezone"], made["domain"]) == ("Shop", "Asia/Kathmandu", "shop.example")
    assert data(admin("GET", f"/{made['id']}")) == made
    assert made in data(admin("GET", ""))
    changed = data(admin("PUT", f"/{made['id']}", {"name": "Store"}))
    assert (changed["name"], changed["timezone"], changed["domain"]) == ("Store", "Asia/Kathmandu", "shop.example")
    assert data(admin("PUT", f"/{made['id']}", {"domain": None}))["domain"] is None
    assert data(admin("DELETE", f"/{made['id']}")) == {"id": made["id"], "deleted": True}
    assert admin("GET", f"/{made['id']}").status_code == 404
    assert admin("DELETE", f"/{made['id']}").status_code == 404


def test_a_project_without_a_time_zone_counts_days_in_utc(admin: Caller) -> None:
    assert data(admin("POST", "", {"name": "Shop"}), 201)["timezone"] == "UTC"


def test_an_unknown_time_zone_is_refused(admin: Caller) -> None:
    cases = ["Mars/Olympus", "europe/berlin", "+02:00", "../UTC", "UTC\0", " UTC"]
    for zone in cases:
        assert fields(admin("POST", "", {"name": "Shop", "timezone": zone})) == {"timezone"}
        assert fields(admin("PUT", "/1", {"timezone": zone})) == {"timezone"}


def test_a_name_that_can_not_be_shown_is_refused(admin: Caller) -> None:
    cases = ["", "   ", "a\0b", "a\nb", "a\x1b[31mb", "\x7f", "x" * 101, 7, None, ["a"]]
    for name in cases:
        assert fields(admin("POST", "", {"name": name})) == {"name"}
        assert fields(admin("POST", "/1/api-keys", {"name": name, "scopes": ["read"]})) == {"name"}


def test_a_name_may_be_of_any_script(admin: Caller) -> None:
    for name in ("Café — ☕", "名前", "x" * 100, "<script>alert(1)</script>", "'; DROP TABLE projects; --"):
        assert data(admin("POST", "", {"name": name}), 201)["name"] == name


def test_a_domain_that_is_none_is_refused(admin: Caller) -> None:
    cases = ["", "a b", "http://x/", "x" * 254, "a\0", 5]
    for domain in cases:
        assert fields(admin("POST", "", {"name": "Shop", "domain": domain})) == {"domain"}


def test_what_is_missing_is_named(admin: Caller) -> None:
    assert fields(admin("POST", "", {})) == {"name"}
    assert fields(admin("POST", "/1/api-keys", {"name": "x"})) == {"scopes"}


@pytest.mark.parametrize("number", HUGE)
def test_a_number_no_project_can_have_is_not_found(admin: Caller, number: str) -> None:
    for method, path, body in (
        ("GET", f"/{number}", None),
        ("PUT", f"/{number}", {"name": "x"}),
        ("DELETE", f"/{number}", None),
        ("GET", f"/{number}/api-keys", None),
        ("POST", f"/{number}/api-keys", {"name": "x", "scopes": ["read"]}),
        ("DELETE", f"/{number}/api-keys/1", None),
        ("DELETE", f"/1/api-keys/{number}", None),
        ("GET", f"/{number}/analytics", None),
        ("GET", f"/{number}/realtime", None),
        ("GET", f"/{number}/events", None),
    ):
        answer = admin(method, path, body)
        assert answer.status_code == 404 and answer.json is not None, f"{method} {path}: {answer.text}"
        assert answer.json["error"] == "NOT_FOUND"


def test_a_key_is_made_used_revoked(admin: Caller, client: FlaskClient) -> None:
    answer = admin("POST", "/1/api-keys", {"name": "reports", "scopes": ["read"]})
    made = data(answer, 201)
    assert answer.headers["Cache-Control"] == "no-store"
    use = Caller(client, made["key"])
    assert data(use("GET", "/1"))["id"] == 1
    listed = data(admin("GET", "/1/api-keys"))
    assert made["apiKey"] in listed and made["key"] not in str(listed)
    data(admin("DELETE", f"/1/api-keys/{made['apiKey']['id']}"))
    refused = use("GET", "/1")
    assert refused.status_code == 401 and refused.json is not None and refused.json["error"] == "UNAUTHORIZED"
    (revoked,) = [key for key in data(admin("GET", "/1/api-keys")) if key["id"] == made["apiKey"]["id"]]
    assert revoked["revokedAt"] is not None


def test_a_revoked_key_sends_no_events(admin: Caller, client: FlaskClient) -> None:
    made = data(admin("POST", "/1/api-keys", {"name": "page", "scopes": ["ingest"]}), 201)
    send = {"json": {"type": "pageview", "url": "https://x.org/"}, "headers": {"X-API-Key": made["key"]}}
    assert client.post("/api/v1/track/event", **send).status_code == 200
    data(admin("DELETE", f"/1/api-keys/{made['apiKey']['id']}"))
    assert client.post("/api/v1/track/event", **send).status_code == 401


def test_a_key_is_revoked_through_its_own_project_only(admin: Caller, client: FlaskClient, other_id: int) -> None:
    made = data(admin("POST", "/1/api-keys", {"name": "x", "scopes": ["read"]}), 201)
    assert admin("DELETE", f"/{other_id}/api-keys/{made['apiKey']['id']}").status_code == 404
    assert Caller(client, made["key"])("GET", "/1").status_code == 200


def test_scopes_that_a_project_key_can_not_have_are_refused(admin: Caller) -> None:
    cases = [[], ["write"], ["admin"], ["read", "admin"], "read", [1], ["read"] * 4]
    for scopes in cases:
        (field,) = fields(admin("POST", "/1/api-keys", {"name": "x", "scopes": scopes}))
        assert field.startswith("scopes")


def test_the_key_comes_as_a_bearer_token_too_but_not_in_the_address(client: FlaskClient, admin_key: str) -> None:
    assert client.get(PROJECTS, headers={"Authorization": f"Bearer {admin_key}"}).status_code == 200
    assert client.get(PROJECTS, headers={"Authorization": f"bearer {admin_key}"}).status_code == 200
    assert client.get(PROJECTS, headers={"Authorization": f"Basic {admin_key}"}).status_code == 401
    assert client.get(f"{PROJECTS}?api_key={admin_key}").status_code == 401


def test_without_a_valid_key_nothing_is_told(client: FlaskClient) -> None:
    cases = [None, "wrong", "pulse_", "x" * 201, "é\x80"]
    for key in cases:
        asked = (("GET", ""), ("GET", "/1"), ("GET", "/999"), ("POST", ""), ("DELETE", "/1"), ("GET", "/1/events"))
        for method, path in asked:
            answer = Caller(client, key)(method, path)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_read_key_sees_its_own_project_alone(reader: Caller, other_id: int) -> None:
    assert [project["id"] for project in data(reader("GET", ""))] == [1]
    assert data(reader("GET", "/1"))["id"] == 1
    for path in (f"/{other_id}", f"/{other_id}/analytics", f"/{other_id}/realtime", f"/{other_id}/events", "/999999"):
        answer = reader("GET", path)
        assert answer.status_code == 403, path
        assert answer.json is not None and "another project" in answer.json["message"]


def test_a_read_key_changes_nothing(reader: Caller) -> None:
    for method, path, body in (
        ("POST", "", {"name": "x"}),
        ("PUT", "/1", {"name": "x"}),
        ("DELETE", "/1", None),
        ("GET", "/1/api-keys", None),
        ("POST", "/1/api-keys", {"name": "x", "scopes": ["read"]}),
        ("DELETE", "/1/api-keys/1", None),
    ):
        assert reader(method, path, body).status_code == 403, f"{method} {path}"
    assert data(reader("GET", "/1"))["name"] != "x"


def test_a_key_from_a_page_reads_nothing(page: Caller) -> None:
    for path in ("", "/1", "/1/analytics", "/1/realtime", "/1/events", "/1/api-keys"):
        assert page("GET", path).status_code == 403, path


def test_who_may_not_is_told_so_before_the_body_is_judged(reader: Caller) -> None:
    assert reader("POST", "", {"name": 5}).status_code == 403


def test_events_need_the_ingest_scope(client: FlaskClient, engine: Engine, admin_key: str) -> None:
    with engine.begin() as connection:
        _, read_key = create_key(connection, 1, "r", ["read"])
    for key in (read_key, admin_key):
        answer = client.post("/api/v1/track/event", json={"type": "pageview"}, headers={"X-API-Key": key})
        assert answer.status_code == 403
