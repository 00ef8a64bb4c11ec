"""Filters and comparison of the analytics report through HTTP."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from pulse.errors import Unavailable
from pulse.reports.facts import Reading
from pulse.rollup.fold import fold_once
from pulse.storage.projects import DEVELOPMENT_KEY
from pulse.web import analytics, computing

URL = "/api/v1/projects/1/analytics"
KEY = {"X-API-Key": DEVELOPMENT_KEY}


@pytest.fixture
def visited(client: FlaskClient, ingest: Callable[..., TestResponse], engine: Engine) -> FlaskClient:
    """A site that a campaign brought one of two visitors to."""
    for visitor, url in (("a", "/?utm_campaign=a;b|c"), ("a", "/pricing"), ("b", "/pricing")):
        assert ingest(type="pageview", url=f"https://shop.example{url}", visitor_id=visitor).status_code == 200
    while fold_once(engine).batches:
        pass
    return client


def ask(client: FlaskClient, **query: str) -> TestResponse:
    return client.get(URL, headers=KEY, query_string=query)


def test_filtered_answer_has_the_same_shape(visited: FlaskClient) -> None:
    whole, part = ask(visited).json["data"], ask(visited, filters="page==/pricing").json["data"]  # type: ignore[index]
    assert set(part) == set(whole)
    assert set(part["breakdowns"]) == set(whole["breakdowns"])
    assert len(part["timeSeries"]) == len(whole["timeSeries"])
    assert (part["overview"]["pageviews"], part["overview"]["sessions"]) == (2, 2)
    assert [row["path"] for row in part["topPages"]] == ["/pricing"]
    campaign = ask(visited, filters=r"utm_campaign==a\;b\|c").json["data"]  # type: ignore[index]
    assert (campaign["overview"]["pageviews"], campaign["overview"]["uniqueVisitors"]) == (2, 1)


def test_each_choice_has_its_own_place_in_the_cache(visited: FlaskClient) -> None:
    first = ask(visited, filters="page==/pricing;device!=x")
    assert (first.headers["X-Cache"], first.headers["Cache-Control"]) == ("MISS", "private, max-age=300")
    again = ask(visited, filters="device!=x; path==/pricing|/pricing")
    assert (again.headers["X-Cache"], again.data) == ("HIT", first.data)
    assert ask(visited, filters="page==/pricing;device!=y").headers["X-Cache"] == "MISS"
    compared = ask(visited, filters="page==/pricing;device!=x", compare="previous")
    assert compared.headers["X-Cache"] == "MISS"
    assert compared.json["data"]["comparison"] is None  # type: ignore[index]
    assert "comparison" not in first.json["data"]  # type: ignore[index]


@pytest.mark.parametrize("path", [URL, "/api/v1/projects/1/events", "/api/v1/projects/1/events/export"])
@pytest.mark.parametrize(
    "filters", ["planet==x", "page", "page==a%00b", "page==" + "x" * 501, ";".join(["page==/"] * 11), "page==a%5Cb"]
)
def test_bad_filters_are_named(client: FlaskClient, path: str, filters: str) -> None:
    answer = client.get(f"{path}?filters={filters}", headers=KEY)
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json["details"]] == ["filters"]  # type: ignore[index]


def test_bytes_that_are_no_text_find_nothing(client: FlaskClient) -> None:
    answer = client.get(f"{URL}?filters=page==%ED%A0%80", headers=KEY)
    assert answer.status_code == 200
    assert answer.json["data"]["overview"]["events"] == 0  # type: ignore[index]


def test_unknown_comparison_is_named(client: FlaskClient) -> None:
    answer = ask(client, compare="week")
    assert (answer.status_code, answer.json["details"][0]["field"]) == (422, "compare")  # type: ignore[index]


def test_events_by_filters(visited: FlaskClient) -> None:
    def paths(filters: str) -> list[str]:
        query = {"filters": filters}
        answer = visited.get("/api/v1/projects/1/events", headers=KEY, query_string=query)
        return [event["path"] for event in answer.json["data"]["events"]]  # type: ignore[index]

    assert paths("page=^/pri") == ["/pricing", "/pricing"]
    assert paths("utm_campaign!=(none)") == ["/"]
    assert paths("page=^/pri;utm_campaign!=(none)") == []
    exported = visited.get("/api/v1/projects/1/events/export?format=json&filters=page==/", headers=KEY)
    assert [event["path"] for event in exported.json["data"]] == ["/"]  # type: ignore[index]
    refused = visited.get("/api/v1/projects/1/events?filters=entry_page==/", headers=KEY)
    assert refused.status_code == 422


def test_who_may_read(visited: FlaskClient, admin_key: str) -> None:
    assert visited.get(f"{URL}?filters=page==/").status_code == 401
    other = "/api/v1/projects/2/analytics?filters=page==/&compare=year"
    assert visited.get(other, headers=KEY).status_code == 403
    assert visited.get(other, headers={"X-API-Key": admin_key}).status_code == 404


def test_too_long_is_unavailable_with_advice(visited: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise Unavailable("stopped", retry_after_s=10)

    monkeypatch.setattr(Reading, "run", stop)
    answer = ask(visited, filters="page==/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")


def test_only_so_many_are_counted_at_once(visited: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "WAIT_S", 0.01)
    with ExitStack() as held:
        for _ in range(analytics._filtered.count):
            held.enter_context(analytics._filtered.turn())
        answer = ask(visited, filters="page==/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
        assert ask(visited).status_code == 200  # what is read from summaries does not wait
    assert ask(visited, filters="page==/").status_code == 200
