"""Campaign reports through HTTP."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from pulse.rollup.fold import fold_once
from pulse.storage.projects import DEVELOPMENT_KEY

URL = "/api/v1/projects/1/campaigns"
KEY = {"X-API-Key": DEVELOPMENT_KEY}


@pytest.fixture
def visited(client: FlaskClient, ingest: Callable[..., TestResponse], engine: Engine) -> FlaskClient:
    """A site that two campaigns brought three visitors to."""
    landings = {"a": "utm_campaign=spring&utm_source=news", "b": "utm_campaign=spring", "c": "utm_campaign=x"}
    for visitor, query in landings.items():
        assert ingest(type="pageview", url=f"https://shop.example/?{query}", visitor_id=visitor).status_code == 200
    assert ingest(type="pageview", url="https://shop.example/", visitor_id="d").status_code == 200
    while fold_once(engine).batches:
        pass
    return client


def test_list(visited: FlaskClient) -> None:
    answer = visited.get(URL, headers=KEY)
    assert answer.status_code == 200
    assert answer.json is not None
    rows = answer.json["data"]["campaigns"]
    assert [(row["campaign"], row["source"], row["sessions"]) for row in rows] == [
        ("spring", None, 1), ("spring", "news", 1), ("x", None, 1),
    ]  # fmt: skip
    assert set(rows[0]) == {
        "campaign", "source", "medium", "sessions", "pageviews", "uniqueVisitors", "bounceRate",
        "avgSessionDurationSeconds", "conversions",
    }  # fmt: skip
    assert answer.headers["X-Cache"] == "MISS"
    again = visited.get(URL, headers={**KEY, "If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.headers["X-Cache"]) == (304, "HIT")
    assert len(visited.get(f"{URL}?limit=1", headers=KEY).json["data"]["campaigns"]) == 1  # type: ignore[index]


def test_top(visited: FlaskClient) -> None:
    for metric in ("sessions", "visitors", "conversions"):
        data = visited.get(f"{URL}/top?metric={metric}", headers=KEY).json["data"]  # type: ignore[index]
        assert data["metric"] == metric
        assert [(row["campaign"], row["uniqueVisitors"]) for row in data["campaigns"]] == [("spring", 2), ("x", 1)]


def test_compare(visited: FlaskClient) -> None:
    data = visited.get(f"{URL}/compare?campaigns=x,spring&granularity=week", headers=KEY).json["data"]  # type: ignore[index]
    assert [(row["campaign"], row["current"]["sessions"]) for row in data["campaigns"]] == [("x", 1), ("spring", 2)]
    assert data["campaigns"][0]["previous"]["sessions"] == 0
    assert data["campaigns"][0]["change"]["sessions"] is None
    assert sum(point["sessions"] for point in data["campaigns"][1]["timeSeries"]) == 2
    # Another choice must not be answered from the first one's place in the cache.
    other = visited.get(f"{URL}/compare?campaigns=x&granularity=week", headers=KEY).json["data"]  # type: ignore[index]
    assert [row["campaign"] for row in other["campaigns"]] == ["x"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("?limit=0", "limit"), ("?limit=1001", "limit"), ("?limit=x", "limit"), ("/top?metric=money", "metric"),
        ("?startDate=2026-13-01", "startDate"), ("/top?end_date=x", "endDate"),
        ("/compare?granularity=year", "granularity"),
        ("/compare?campaigns=a,b,c,d,e,f,g,h,i,j,k", "campaigns"), ("/compare?campaigns=%00", "campaigns"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(client: FlaskClient, path: str, field: str) -> None:
    answer = client.get(URL + path, headers=KEY)
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json["details"]] == [field]  # type: ignore[index]


@pytest.mark.parametrize("path", ["", "/top", "/compare"])
def test_who_may_read(client: FlaskClient, admin_key: str, path: str) -> None:
    assert client.get(URL + path).status_code == 401
    assert client.get(f"/api/v1/projects/2/campaigns{path}", headers=KEY).status_code == 403
    for number in (2, 2**31, 10**20):
        answer = client.get(f"/api/v1/projects/{number}/campaigns{path}", headers={"X-API-Key": admin_key})
        assert answer.status_code == 404
