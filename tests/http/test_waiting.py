"""A worker that starts before its database."""

from dataclasses import replace
from pathlib import Path

from flask import Flask
from sqlalchemy import Engine
from werkzeug.test import Client

from pulse.app import create_app
from pulse.config import Config
from pulse.storage.projects import ensure_development_project
from pulse.web.tracking import TrackingFirst
from pulse.web.waiting import Waiting, serve_when_ready
from tests.running import wait_until

EVENT = {"json": {"type": "pageview", "url": "https://example.com/"}, "headers": {"X-API-Key": "test_api_key"}}


def test_it_asks_to_come_again_until_the_database_is_there(config: Config, engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
    absent = replace(config, database_url=f"postgresql+psycopg2://pulse@/x?host={tmp_path}")
    settings = [absent]
    app = serve_when_ready(lambda: create_app(settings[0]))
    assert isinstance(app, Waiting) and app.wsgi_app is None
    client = Client(app)
    answer = client.post("/api/v1/track/event", **EVENT)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert answer.json is not None and answer.json["error"] == "UNAVAILABLE"
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503

    settings[0] = config
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert client.post("/api/v1/track/event", **EVENT).status_code == 200
    assert isinstance(app.wsgi_app, TrackingFirst)
    app.extensions["pulse"].writer.close()
    app.extensions["pulse"].database.dispose()


def test_it_is_the_application_itself_when_the_database_is_there(app: Flask) -> None:
    assert serve_when_ready(lambda: app) is app
