"""Answers that a process has just sent from the cache, sent again for half a second without Flask and without Redis.

Many who look at the same report ask within moments of each other. What Flask, its contexts and a way to Redis and back
do for each of them is two thirds of an answer from the cache, and on a busy machine the way to Redis means waiting for
two processes to be scheduled. Only what the cache had is kept here, whole, under all that decides about it: path,
query, key, what the client takes and what it holds. It goes when its answer nears its end (somebody must have that
renewed), when a key, project or goal changes, and when this process deletes from the cache.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pulse.cache import Entry, cache
from pulse.errors import PulseError
from pulse.monitor import recorder
from pulse.storage.projects import ApiKey
from pulse.web import arrival
from pulse.web.access import presented_key
from pulse.web.service import Service

# Another process's deletion, or a late event of a past day, is noticed so much later.
NEAR_S = 0.5
MAX_BYTES = 8 * 1024 * 1024
ENTRY_BYTES = 1_500  # what an entry takes beside its body

# In the WSGI environment: until when this answer may be sent again, its route, and what the counters count it under.
SEND_AGAIN = "pulse.send_again"
# What an answer can hold that is meant for one request alone: who is logged in and shows a key as well gets the login's
# cookie anew, and a request that logged something is told the id it has in the log.
_OF_ONE_REQUEST = frozenset({"Set-Cookie", "X-Request-Id"})


class SendAgain(NamedTuple):
    """What a view says of an answer that may be sent again; `until` is epoch seconds."""

    until: float
    route: str
    namespace: str


class _Held(NamedTuple):
    say: SendAgain
    api_key: ApiKey
    state: tuple[bytes, int]
    status: str
    headers: list[tuple[str, str]]
    body: bytes


def offer(environ: dict[str, Any], route: str, entry: Entry, namespace: str) -> None:
    """Say that the answer to this request may be sent again for a moment, if it came from the cache and is not old."""
    if entry.state == "HIT":
        until = min(time.time() + NEAR_S, cache.renewed_from(entry))
        environ[SEND_AGAIN] = SendAgain(until, route, namespace)


class NearFirst:
    """WSGI middleware that sends what it has."""

    def __init__(self, parts: Service, rest: Callable[..., Iterable[bytes]]) -> None:
        self._parts = parts
        self._rest = rest
        self._held: dict[tuple[str, ...], _Held] = {}
        self._bytes = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        text = presented_key(environ) if environ["REQUEST_METHOD"] == "GET" else None
        if not text or "HTTP_X_REQUEST_ID" in environ:
            return self._rest(environ, start_response)
        key = (
            environ["PATH_INFO"], environ["QUERY_STRING"], text, environ.get("HTTP_ACCEPT_ENCODING", ""),
            environ.get("HTTP_IF_NONE_MATCH", ""),
        )  # fmt: skip
        held = self._held.get(key)
        if held is None or not self._is_good(held, text):
            return self._ask(key, text, environ, start_response)
        started_at = arrival.started_at()
        start_response(held.status, held.headers)
        cache.count_hit(held.say.namespace)
        took_ms = (time.perf_counter() - started_at) * 1000
        recorder.record_request(held.say.route, "GET", int(held.status[:3]), took_ms)
        return (held.body,)

    def _is_good(self, held: _Held, text: str) -> bool:
        if time.time() >= held.say.until or held.state != self._state():
            return False
        return self._find_key(text) == held.api_key

    def _find_key(self, text: str) -> ApiKey | None:
        try:
            return self._parts.keys.get(text)
        except PulseError:  # PostgreSQL is away, and nothing is known of the key
            return None

    def _state(self) -> tuple[bytes, int]:
        return self._parts.generation(), cache.deletions

    def _ask(
        self, key: tuple[str, ...], text: str, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Ask the application, and hold its answer if it says so."""
        state = self._state()
        said: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            said[:] = status, headers
            return start_response(status, headers, *more)

        answer = self._rest(environ, note)
        say: SendAgain | None = environ.get(SEND_AGAIN)
        if say is None:
            return answer
        body = b"".join(answer)
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        api_key = self._find_key(text)
        if api_key is not None and _OF_ONE_REQUEST.isdisjoint(name for name, _ in said[1]):
            self._hold(key, _Held(say, api_key, state, said[0], said[1], body))
        return (body,)

    def _hold(self, key: tuple[str, ...], held: _Held) -> None:
        size = _size_of(key, held)
        before = self._held.get(key)
        if before is not None:
            self._bytes -= _size_of(key, before)
        elif self._bytes + size > MAX_BYTES:
            self._held, self._bytes = {}, 0  # what is asked for is back in a moment
        self._held[key] = held
        self._bytes += size


def _size_of(key: tuple[str, ...], held: _Held) -> int:
    """Return about how many bytes an entry takes; a client chooses how long its key is."""
    return sum(map(len, key)) + len(held.body) + ENTRY_BYTES
