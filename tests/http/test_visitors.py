"""One visitor's data through HTTP and the command line: exported and deleted."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from pulse import cli
from pulse.config import Config
from pulse.rollup.erasure import run_erasures
from pulse.rollup.fold import fold_once
from pulse.rollup.requests import run_requests
from pulse.storage.projects import DEVELOPMENT_KEY

EXPORT, ERASE = "/api/v1/projects/1/visitors/export", "/api/v1/projects/1/erasures"
ANNA = {"visitorId": "anna@shop/42 ü"}


@pytest.fixture
def ask(client: FlaskClient, admin_key: str) -> Callable[..., Any]:
    """Call an endpoint as an administrator; return the whole answer."""

    def call(method: str, path: str, body: object = None, expected: int = 200) -> Any:
        answer = client.open(path, method=method, json=body, headers={"X-API-Key": admin_key})
        assert answer.status_code == expected, answer.text
        return answer.json

    return call


@pytest.fixture
def visits(ingest: Callable[..., TestResponse], engine: Engine) -> None:
    """Two visits of Anna's, one of Bert's and one of somebody without an id, folded."""
    for path, who in (("/a", ANNA["visitorId"]), ("/b", ANNA["visitorId"]), ("/a", "bert"), ("/a", None)):
        known = {} if who is None else {"visitor_id": who}
        url = f"https://shop.example{path}"
        assert ingest(type="pageview", url=url, custom_data={"n": 1}, **known).status_code == 200
    while fold_once(engine).batches:
        pass


@pytest.mark.usefixtures("visits")
def test_export_erase_and_nothing_left(ask: Callable[..., Any], engine: Engine, client: FlaskClient) -> None:
    found = ask("POST", EXPORT, ANNA)["data"]
    assert [event["path"] for event in found["events"]] == ["/a", "/b"]
    assert [event["customData"] for event in found["events"]] == [{"n": 1}, {"n": 1}]
    assert [(s["pageviews"], s["entryPath"], s["exitPath"]) for s in found["sessions"]] == [(2, "/a", "/b")]
    assert len({event["visitorId"] for event in found["events"]}) == 1
    asked = ask("POST", ERASE, ANNA, 202)["data"]
    assert (asked["status"], asked["events"]) == ("waiting", 0)
    assert asked["keptSince"] in " ".join(asked["plan"])
    assert "anna" not in json.dumps(asked)
    run_erasures(engine, lambda _: False)
    run_requests(engine)
    run_erasures(engine, lambda _: False)
    done = ask("GET", f"{ERASE}/{asked['id']}")["data"]
    assert (done["status"], done["events"], done["sessions"]) == ("done", 2, 1)
    listed = ask("GET", ERASE)["data"]
    assert [row["id"] for row in listed] == [asked["id"]]
    with engine.begin() as connection:
        visitor = connection.execute(text("SELECT visitor FROM erasures")).scalar_one()  # see test_erasure_again.py
    assert str(visitor) not in json.dumps([asked, done, listed])
    assert ask("POST", EXPORT, ANNA)["data"] == {"events": [], "sessions": []}
    assert len(ask("POST", EXPORT, {"visitorId": "bert"})["data"]["events"]) == 1
    overview = ask("GET", "/api/v1/projects/1/analytics")["data"]["overview"]
    assert (overview["pageviews"], overview["uniqueVisitors"]) == (2, 2)


@pytest.mark.parametrize("path", [EXPORT, ERASE])
@pytest.mark.parametrize("given", [None, "", "x" * 256, "a\0b", 7])
def test_bad_ids_are_named(ask: Callable[..., Any], path: str, given: object) -> None:
    body = {} if given is None else {"visitorId": given}
    assert [detail["field"] for detail in ask("POST", path, body, 422)["details"]] == ["visitorId"]


def test_projects_and_erasures_that_do_not_exist(ask: Callable[..., Any]) -> None:
    for path in (EXPORT, ERASE):
        ask("POST", path.replace("/1/", "/99/"), ANNA, 404)
    for path in (f"{ERASE}/1", f"{ERASE}/{2**31}", ERASE.replace("/1/", "/99/")):
        ask("GET", path, expected=404)


@pytest.mark.parametrize(("method", "path"), [("POST", EXPORT), ("POST", ERASE), ("GET", ERASE), ("GET", f"{ERASE}/1")])
def test_administrators_only(client: FlaskClient, method: str, path: str) -> None:
    assert client.open(path, method=method, json=ANNA).status_code == 401
    answer = client.open(path, method=method, json=ANNA, headers={"X-API-Key": DEVELOPMENT_KEY})
    assert answer.status_code == 403


@pytest.mark.usefixtures("visits")
def test_the_command_line(config: Config, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", str(config.database_url))
    monkeypatch.setenv("PULSE_DATA_DIR", str(config.data_dir))

    def run(*words: str) -> str:
        answer = CliRunner().invoke(cli.main, ["visitor", *words], prog_name="pulse")
        assert answer.exit_code == 0, answer.output
        return answer.output

    found = json.loads(run("export", "1", ANNA["visitorId"]))["data"]
    assert [event["path"] for event in found["events"]] == ["/a", "/b"]
    assert "pulse visitor status 1 1" in run("delete", "1", ANNA["visitorId"], "--yes")
    run_erasures(engine, lambda _: False)
    assert "Erasure 1 is recounting: 2 events and 1 sessions deleted" in run("status", "1", "1")
    run_requests(engine)
    run_erasures(engine, lambda _: False)
    assert "Erasure 1 is done" in run("status", "1", "1")
    assert "no project 9" in CliRunner().invoke(cli.main, ["visitor", "export", "9", "x"]).output
