"""Goals and funnels through HTTP, from the event to the figures."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from pulse.rollup.fold import fold_once
from pulse.rollup.goals import count_all
from pulse.storage.projects import DEVELOPMENT_KEY, create_key, create_project
from pulse.web.goals import _funnels

URL = "/api/v1/projects/1/goals"
KEY = {"X-API-Key": DEVELOPMENT_KEY}
SIGNUP = {"kind": "event", "name": "Sign-up", "eventName": "signup"}

Send = Callable[..., TestResponse]


def ask(client: FlaskClient, method: str, path: str = "", expected: int = 200, **more: Any) -> Any:
    answer = client.open(URL + path, method=method, headers=KEY, **more)
    assert answer.status_code == expected, answer.text
    return answer.json["data"] if expected < 300 else answer.json


def work(engine: Engine) -> None:
    """What the background worker does."""
    while fold_once(engine).batches:
        pass
    count_all(engine)


def test_goal_from_making_to_deletion(client: FlaskClient, ingest: Send, engine: Engine) -> None:
    made = ask(client, "POST", expected=201, json=SIGNUP)
    assert made["status"] == "counting"
    for visitor in ("a", "b"):
        assert ingest(type="pageview", url="https://shop.example/", visitor_id=visitor).status_code == 200
    for visitor in ("a", "a"):
        assert ingest(type="custom", event_name="signup", visitor_id=visitor).status_code == 200
    work(engine)
    [goal] = ask(client, "GET")["goals"]
    wanted = {"status": "ready", "completions": 2, "uniqueVisitors": 1, "conversionRate": 50.0, "value": 0.0}
    assert goal | wanted == goal
    one = ask(client, "GET", f"/{goal['id']}")
    assert [point["completions"] for point in one["timeSeries"]] == [2]

    changed = ask(client, "PUT", f"/{goal['id']}", json={"kind": "page", "name": "Home", "path": "/"})
    assert changed["path"] == "/" and changed["eventName"] is None and changed["status"] == "counting"
    assert ask(client, "GET")["goals"][0]["completions"] == 0
    work(engine)
    assert ask(client, "GET")["goals"][0]["completions"] == 2

    assert ask(client, "DELETE", f"/{goal['id']}") == {"id": goal["id"], "deleted": True}
    assert ask(client, "GET")["goals"] == []
    ask(client, "GET", f"/{goal['id']}", expected=404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "event", "name": "x"}, "eventName"),
        ({"kind": "event", "name": "x", "eventType": "engagement"}, "eventType"),
        ({"kind": "page", "name": "x"}, "path"),
        ({"kind": "page", "name": "x", "path": "no-slash"}, "path"),
        ({"kind": "page", "name": "x", "path": "/" + "*" * 11}, "path"),
        ({"kind": "page", "name": "x", "path": "/\0"}, "path"),
        ({"kind": "value", "name": "x"}, "valueKey"),
        ({"kind": "sale", "name": "x"}, "kind"),
        ({"kind": "event", "name": " ", "eventName": "x"}, "name"),
        ({"kind": "event", "name": "x" * 101, "eventName": "x"}, "name"),
    ],
)
def test_bad_goal_names_the_field(client: FlaskClient, body: dict[str, Any], field: str) -> None:
    answer = ask(client, "POST", expected=422, json=body)
    assert answer["error"] == "VALIDATION_FAILED"
    assert [detail["field"] for detail in answer["details"]] == [field]


def test_names_are_unique_within_a_project(client: FlaskClient) -> None:
    first = ask(client, "POST", expected=201, json=SIGNUP)
    other = ask(client, "POST", expected=201, json={**SIGNUP, "name": "Other"})
    assert ask(client, "POST", expected=409, json=SIGNUP)["details"][0]["field"] == "name"
    ask(client, "PUT", f"/{other['id']}", expected=409, json=SIGNUP)
    ask(client, "PUT", f"/{first['id']}", json=SIGNUP)


def test_a_project_holds_fifty_goals(client: FlaskClient) -> None:
    for number in range(50):
        ask(client, "POST", expected=201, json={**SIGNUP, "name": f"Goal {number}"})
    ask(client, "POST", expected=409, json=SIGNUP)


def test_goals_of_others_are_out_of_reach(client: FlaskClient, engine: Engine) -> None:
    goal = ask(client, "POST", expected=201, json=SIGNUP)
    with engine.begin() as connection:
        other = create_project(connection, "other")
        key = create_key(connection, other.id, "test", ["read"])[1]
    path = f"/api/v1/projects/{other.id}/goals/{goal['id']}"
    for method, body in (("GET", None), ("PUT", SIGNUP), ("DELETE", None)):
        assert client.open(path, method=method, json=body, headers={"X-API-Key": key}).status_code == 404
        assert client.open(path, method=method, json=body, headers=KEY).status_code == 403
    assert len(ask(client, "GET")["goals"]) == 1


@pytest.mark.parametrize("number", [0, 2**31, 10**30])
def test_numbers_of_nothing(client: FlaskClient, admin_key: str, number: int) -> None:
    for method, body in (("GET", None), ("PUT", SIGNUP), ("DELETE", None)):
        ask(client, method, f"/{number}", expected=404, json=body)
    admin = {"X-API-Key": admin_key}
    steps = {"steps": [{"type": "page", "value": "/"}] * 2}
    for method, path, body in (("GET", "", None), ("POST", "", SIGNUP), ("POST", "/funnel", steps)):
        url = f"/api/v1/projects/{number}/goals{path}"
        assert client.open(url, method=method, json=body, headers=admin).status_code == 404


def test_funnel(client: FlaskClient, ingest: Send, engine: Engine) -> None:
    for visitor, pages in {"a": ["/", "/cart", "/paid"], "b": ["/", "/cart"], "c": ["/cart", "/"]}.items():
        for minute, page in enumerate(pages):
            at = f"2026-01-01T10:{minute:02}:00Z"
            _store(engine, visitor=ord(visitor), path=page, at=at)
    body = {
        "steps": [{"type": "page", "value": path} for path in ("/", "/c*", "/paid")],
        "startDate": "2026-01-01", "endDate": "2026-01-01",
    }  # fmt: skip
    found = ask(client, "POST", "/funnel", json=body)
    assert [step["visitors"] for step in found["steps"]] == [3, 2, 1]
    assert [step["dropOff"] for step in found["steps"]] == [0, 1, 1]
    assert [step["conversionRate"] for step in found["steps"]] == [100.0, 66.67, 50.0]
    assert found["conversionRate"] == 33.33


def _store(engine: Engine, visitor: int, path: str, at: str) -> None:
    from datetime import datetime

    from tests.db.rollup.conftest import commit_batch, cover, make_event

    when = datetime.fromisoformat(at)
    cover(engine, when, when)
    commit_batch(engine, [make_event(1, when, visitor=visitor, path=path)])


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([{"type": "page", "value": "/"}], "steps"),
        ([{"type": "page", "value": "/"}] * 11, "steps"),
        ([{"type": "page", "value": "/"}, {"type": "click", "value": "x"}], "steps[1].type"),
        ([{"type": "page", "value": "/"}, {"type": "page", "value": "*" * 11}], "steps[1].value"),
        ([{"type": "page", "value": "/"}, {"type": "event", "value": "engagement"}], "steps[1].value"),
    ],
)
def test_bad_funnel_names_the_field(client: FlaskClient, steps: list[dict[str, str]], field: str) -> None:
    answer = ask(client, "POST", "/funnel", expected=422, json={"steps": steps})
    assert [detail["field"] for detail in answer["details"]] == [field]


def test_bad_days_name_the_field(client: FlaskClient) -> None:
    answer = ask(client, "GET", "?startDate=2026-02-30", expected=422)
    assert answer["details"][0]["field"] == "startDate"


def test_key_is_needed(client: FlaskClient) -> None:
    assert client.get(URL).status_code == 401
    assert client.post(URL, json=SIGNUP).status_code == 401


def test_a_funnel_too_many_is_told_to_come_again(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulse.web.computing.WAIT_S", 0.01)
    body = {"steps": [{"type": "page", "value": "/"}, {"type": "event", "value": "signup"}]}
    with ExitStack() as busy:
        for _ in range(_funnels.count):
            busy.enter_context(_funnels.turn())
        answer = client.open(f"{URL}/funnel", method="POST", headers=KEY, json=body)
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    ask(client, "POST", "/funnel", json=body)
