"""A worker that starts while PostgreSQL is away: it answers 503 until the application can be built."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from pulse.errors import ConfigError, Unavailable

log = logging.getLogger("pulse.app")

RETRY_S = 0.5
RETRY_AFTER_FAULT_S = 10.0
_LIVE = json.dumps({"success": True, "data": {"status": "starting", "database": "away"}}).encode()
_AWAY = json.dumps(
    {"success": False, "error": "UNAVAILABLE", "message": "The service waits for its database; try again shortly."}
).encode()


class Waiting:
    """A WSGI application that stands in for another until that can be built."""

    def __init__(self, build: Callable[[], Flask]) -> None:
        self._build = build
        self._app: Flask | None = None
        threading.Thread(target=self._run, name="waiting", daemon=True).start()

    @property
    def extensions(self) -> dict[str, Any]:
        """The built application's, none before."""
        return {} if self._app is None else self._app.extensions

    @property
    def wsgi_app(self) -> Any:
        """The built application's, None before."""
        return None if self._app is None else self._app.wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._app is not None:
            return self._app(environ, start_response)
        is_live = environ.get("PATH_INFO", "").endswith("/health/live")
        body = _LIVE if is_live else _AWAY
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK" if is_live else "503 Service Unavailable", [*headers, ("Retry-After", "2")])
        return [body]

    def _run(self) -> None:
        while self._app is None:
            time.sleep(RETRY_S)
            try:
                self._app = self._build()
            except Unavailable:
                continue
            except ConfigError as error:
                log.error("%s", error)
                return
            except Exception:
                log.exception("this worker could not begin")
                time.sleep(RETRY_AFTER_FAULT_S)
        log.warning("PostgreSQL is there: this worker is ready")


def serve_when_ready(build: Callable[[], Flask]) -> Flask | Waiting:
    """Return the application, or one that stands in for it until PostgreSQL answers. Raises ConfigError.

    A worker that gave up instead would make gunicorn end all the others.
    """
    try:
        return build()
    except Unavailable as error:
        log.warning("this worker waits for PostgreSQL: %s", error)
        return Waiting(build)
