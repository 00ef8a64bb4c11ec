"""A small HTTP server for the tracker's tests: serves pages, keeps what the tracker sends, fails on demand."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pulse.web.pages import load_tracker

WAIT_S = 15

Event = dict[str, Any]


@dataclass
class Sent:
    """One request of the tracker, with the status it was answered."""

    path: str
    body: Any
    headers: dict[str, str]
    status: int

    @property
    def events(self) -> list[Event]:
        """The events in it, of a single request as of a batch."""
        return list(self.body["events"]) if "events" in self.body else [self.body]


@dataclass
class Recorder:
    """Pages by path, and everything posted. `statuses` are the answers to the next posts; after them 200."""

    origin: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    requests: list[Sent] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    down: bool = False
    methods: list[tuple[str, str]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def page(self, path: str, head: str, body: str = "") -> str:
        """Serve a page whose <head> holds `head`; returns its address."""
        self.pages[path] = f"<!doctype html><title>{path}</title>{head}<body>{body}"
        return self.origin + path

    def tracked(self, path: str, body: str = "", attributes: str = "", before: str = "") -> str:
        """Serve a page with the tracker in it; returns its address."""
        script = f'<script defer src="/js/pulse.js" data-api-key="key-1" {attributes}></script>'
        return self.page(path, before + script, body)

    def add(self, sent: Sent) -> None:
        """Keep one request and wake up who waits for it."""
        with self._changed:
            self.requests.append(sent)
            self._changed.notify_all()

    def stored(self) -> list[Event]:
        """The events that were answered 200, each id once."""
        return list({event["event_id"]: event for sent in self.requests if sent.status == 200 for event in sent.events}
                    .values())

    def of_type(self, kind: str) -> list[Event]:
        """The stored events of one type."""
        return [event for event in self.stored() if event["event_type"] == kind]

    def wait(self, condition: Callable[["Recorder"], Any]) -> Any:
        """What `condition` returns as soon as that is true. Fails the test after 15 s."""
        with self._changed:
            found = self._changed.wait_for(lambda: condition(self), WAIT_S)
        assert found, f"not seen; received {[(sent.path, sent.status, sent.body) for sent in self.requests]}"
        return found


def _make_handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.endswith("/js/pulse.js"):
                self._answer(200, load_tracker().body, "text/javascript; charset=utf-8")
            elif path in recorder.pages:
                self._answer(200, recorder.pages[path].encode(), "text/html; charset=utf-8")
            else:
                self._answer(404, b"", "text/plain")

        def do_OPTIONS(self) -> None:
            recorder.methods.append(("OPTIONS", self.path))
            self._answer(204, b"", "text/plain")

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            if recorder.down:
                self.close_connection = True  # no answer at all: the browser sees a network error
                return
            status = recorder.statuses.pop(0) if recorder.statuses else 200
            # Kept before it is answered, so that an answer's consequences can only come after it.
            recorder.add(Sent(self.path, json.loads(text or b"{}"), dict(self.headers), status))
            self._answer(status, b'{"success": true}', "application/json")

    return Handler


def start() -> tuple[Recorder, ThreadingHTTPServer]:
    """A recorder that listens on a free port of the loopback interface."""
    recorder = Recorder()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(recorder))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recorder.origin = f"http://127.0.0.1:{server.server_port}"
    return recorder, server
