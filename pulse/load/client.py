"""A small client of the service's own API: one connection, kept open."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

RETRIES = 5
_CLOSED = (BrokenPipeError, ConnectionResetError, http.client.CannotSendRequest)  # RemoteDisconnected is a reset


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The `data` of a successful answer."""
        return json.loads(self.body)["data"]

    @property
    def message(self) -> str:
        """What the service says went wrong."""
        try:
            return str(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            return f"status {self.status}"


class Client:
    """Sends requests one after the other, with the API key; not for several threads at once."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float = 30.0) -> None:
        try:
            parts = urlsplit(base_url if "://" in base_url else f"http://{base_url}")
            host, port = parts.hostname, parts.port
        except ValueError:  # no such port, or half of an IPv6 address
            host = None
        if host is None or parts.scheme not in ("http", "https"):
            raise click.ClickException(f"BASE_URL holds {base_url!r}; it may hold a URL such as http://localhost:3001")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.base_url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._path = parts.path.rstrip("/")
        self._connection = kind(host, port, timeout=timeout_s)
        self._headers = {"X-API-Key": api_key} if api_key else {}

    def get(self, path: str) -> Answer:
        """Read something, `path` beginning with /."""
        return self._request("GET", path, None, {})

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, tries: int = RETRIES
    ) -> Answer:
        """Send JSON; waits and repeats, `tries` in all, while the service says that it is busy (429, 503)."""
        for left in reversed(range(tries)):
            answer = self._request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
            if answer.status not in (429, 503) or not left:
                return answer
            time.sleep(min(float(answer.headers.get("Retry-After") or 1), 10))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        for attempt in (1, 2):
            try:
                self._connection.request(method, self._path + path, body, {**self._headers, **headers})
                response = self._connection.getresponse()
                return Answer(response.status, dict(response.headers), response.read())
            except _CLOSED:
                # An idle connection lives as long as the service lets it.
                self._connection.close()
                if attempt == 2:
                    raise click.ClickException(f"The service at {self.base_url} closes the connection.") from None
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise click.ClickException(
                    f"No service answers at {self.base_url} ({reason}). Start it with `make run`, or set BASE_URL."
                ) from None
        raise AssertionError("unreachable")
