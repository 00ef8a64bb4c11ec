"""The performance page over the real service, whose answers a test may change on their way."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask, Response, request
from werkzeug.serving import make_server

from pulse.config import Config
from pulse.monitor import shared
from pulse.storage.projects import DEVELOPMENT_KEY
from tests.browser.performance.page import Changes


@pytest.fixture
def config(config: Config) -> Config:
    """A developer's machine, where the page opens without a login."""
    return replace(config, env="development")


@pytest.fixture
def changes() -> Changes:
    """What is changed in the service's real answers, by path under `/api/v1/performance`."""
    return {}


def serve(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def origin(app: Flask, changes: Changes) -> Iterator[str]:
    """The service, with nothing counted yet."""
    shared.reset()

    @app.after_request
    def change(response: Response) -> Response:
        found = changes.get(request.path.removeprefix("/api/v1/performance"))
        if found is not None and request.path.startswith("/api/v1/performance"):
            body = response.get_json()
            found(body["data"])
            response.set_data(json.dumps(body))
        return response

    yield from serve(app)


@pytest.fixture
def busy(origin: str, app: Flask) -> str:
    """The service after some events and reports."""
    client, key = app.test_client(), {"X-API-Key": DEVELOPMENT_KEY}
    for number in range(20):
        event = {"type": "pageview", "url": f"https://example.com/{number}"}
        assert client.post("/api/v1/track/event", json=event, headers=key).status_code == 200
        assert client.get("/api/v1/projects/1/analytics", headers=key).status_code == 200
    return origin
